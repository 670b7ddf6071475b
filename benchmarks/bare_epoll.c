/*
 * A reference, not a chat server: the least that a single-threaded server can do.
 *
 * What all clients have sent between two polls is one batch, and each client gets the batch in one send. Nothing
 * is parsed but the end of each client's first line, its name, which is dropped; nothing is stored; the senders
 * get their own lines back. What a socket does not take is kept, without bound.
 *
 * usage: bare_epoll PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 1024, READ_SIZE = 64 * 1024, BATCH_SIZE = EVENTS * READ_SIZE };

struct client {
    int fd;
    int place; /* in clients */
    bool named;
    char *rest; /* what the socket did not take */
    size_t length, size;
};

static struct client **clients;
static int count, room;
static char *batch;
static size_t batch_length;
static int epoll_fd, listener;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int operation, int fd, uint32_t events, struct client *client)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epoll_fd, operation, fd, &event))
        fail("epoll_ctl");
}

static void add_client(int fd)
{
    int on = 1;
    struct client *client = calloc(1, sizeof *client);
    if (count == room)
        clients = realloc(clients, (size_t)(room = room * 2 + 64) * sizeof *clients);
    if (!client || !clients)
        fail("out of memory");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client->fd = fd;
    client->place = count;
    clients[count++] = client;
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, client);
}

static void accept_all(void)
{
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
        add_client(fd);
}

static void drop(struct client *client)
{
    close(client->fd);
    clients[client->place] = clients[--count];
    clients[client->place]->place = client->place;
    free(client->rest);
    free(client);
}

/* The first line is the client's name: it and what comes before its end stay out of the batch. */
static void take(struct client *client, size_t length)
{
    char *from = batch + batch_length;
    if (!client->named) {
        char *end = memchr(from, '\n', length);
        if (!end)
            return;
        client->named = true;
        length -= (size_t)(end + 1 - from);
        memmove(from, end + 1, length);
    }
    batch_length += length;
}

static void keep(struct client *client, const char *bytes, size_t length)
{
    if (client->length + length > client->size) {
        client->size = (client->length + length) * 2;
        client->rest = realloc(client->rest, client->size);
        if (!client->rest)
            fail("out of memory");
    }
    if (!client->length)
        watch(EPOLL_CTL_MOD, client->fd, EPOLLIN | EPOLLOUT, client);
    memcpy(client->rest + client->length, bytes, length);
    client->length += length;
}

static void give(struct client *client)
{
    ssize_t sent = 0;
    if (!client->length)
        sent = send(client->fd, batch, batch_length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return; /* it is gone: the next read says so */
    if (sent < 0)
        sent = 0;
    if ((size_t)sent < batch_length)
        keep(client, batch + sent, batch_length - (size_t)sent);
}

static void give_rest(struct client *client)
{
    ssize_t sent = send(client->fd, client->rest, client->length, MSG_NOSIGNAL);
    if (sent <= 0)
        return;
    client->length -= (size_t)sent;
    memmove(client->rest, client->rest + sent, client->length);
    if (!client->length)
        watch(EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
}

static void on_event(struct client *client, uint32_t events)
{
    if (!client) {
        accept_all();
        return;
    }
    if (events & EPOLLOUT && client->length)
        give_rest(client);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    ssize_t length = recv(client->fd, batch + batch_length, READ_SIZE, 0);
    if (length > 0)
        take(client, (size_t)length);
    else if (length == 0 || errno != EAGAIN)
        drop(client);
}

static void listen_at(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        fail("listen");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS];
    if (argc != 2)
        return 2;
    raise_descriptor_limit();
    batch = malloc(BATCH_SIZE); /* as much as one round can read; untouched pages cost nothing */
    if (!batch)
        fail("out of memory");
    listen_at(atoi(argv[1]));
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        batch_length = 0;
        for (int i = 0; i < ready; i++)
            on_event(events[i].data.ptr, events[i].events);
        for (int i = 0; batch_length && i < count; i++)
            give(clients[i]);
    }
}
