/*
 * A reference: the chat server that courses teach. Each client has a thread, which reads lines and sends each to
 * every other client, under a mutex, with a send that blocks. The first line is the client's name; it is told
 * when somebody comes or goes. Nothing is stored. Nagle's algorithm is left on, as it is there, which makes it
 * faster when it has much to send.
 *
 * usage: threads PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 16384, LINE = 2048, STACK = 64 * 1024 };

struct client {
    int fd;
    int place; /* in clients */
    char name[33];
};

static struct client *clients[CLIENTS];
static int count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void send_all(int fd, const char *bytes, size_t length)
{
    while (length) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        bytes += sent;
        length -= (size_t)sent;
    }
}

static void broadcast(const struct client *from, const char *line, size_t length)
{
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < count; i++)
        if (clients[i] != from)
            send_all(clients[i]->fd, line, length);
    pthread_mutex_unlock(&mutex);
}

static void say(const struct client *from, const char *text)
{
    char line[LINE + 64];
    int length = snprintf(line, sizeof line, "%s: %s\n", from->name, text);
    broadcast(from, line, (size_t)length);
}

static void tell(const struct client *who, const char *what)
{
    char line[64];
    int length = snprintf(line, sizeof line, "* %s %s\n", who->name, what);
    broadcast(who, line, (size_t)length);
}

static void enter(struct client *client)
{
    pthread_mutex_lock(&mutex);
    if (count == CLIENTS)
        exit(1);
    client->place = count;
    clients[count++] = client;
    pthread_mutex_unlock(&mutex);
    tell(client, "has joined");
}

static void leave(struct client *client)
{
    pthread_mutex_lock(&mutex);
    clients[client->place] = clients[--count];
    clients[client->place]->place = client->place;
    pthread_mutex_unlock(&mutex);
    tell(client, "has left");
}

static void take_line(struct client *client, char *line)
{
    line[strcspn(line, "\r")] = 0;
    if (*client->name) {
        say(client, line);
    } else {
        snprintf(client->name, sizeof client->name, "%.32s", line);
        enter(client);
    }
}

static void *serve(void *argument)
{
    struct client *client = argument;
    char buffer[LINE + 1];
    size_t have = 0;
    for (ssize_t got; have < LINE && (got = recv(client->fd, buffer + have, LINE - have, 0)) > 0;) {
        char *line = buffer, *end = buffer + have + got;
        for (char *feed; (feed = memchr(line, '\n', (size_t)(end - line))); line = feed + 1) {
            *feed = 0;
            take_line(client, line);
        }
        have = (size_t)(end - line);
        memmove(buffer, line, have);
    }
    if (*client->name)
        leave(client);
    close(client->fd);
    free(client);
    return NULL;
}

static int listen_at(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096))
        fail("listen");
    return fd;
}

static void start_thread(int fd, const pthread_attr_t *attributes)
{
    pthread_t thread;
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        fail("out of memory");
    client->fd = fd;
    if (pthread_create(&thread, attributes, serve, client)) {
        close(fd);
        free(client);
    }
}

int main(int argc, char **argv)
{
    pthread_attr_t attributes;
    struct rlimit limit;
    if (argc != 2)
        return 2;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    int listener = listen_at(atoi(argv[1]));
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
        start_thread(fd, &attributes);
    fail("accept");
}
