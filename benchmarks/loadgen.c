/*
 * A load generator for chat servers: one process, one thread, epoll, loopback only.
 *
 * It connects members who listen and a few who send, in one of several dialects, and measures what arrives
 * while every listener checks, message by message, that nothing is missing, repeated or out of order.
 *
 *   closed loop (--in-flight F)  F messages are under way at any time. A message is over when one listener,
 *       its sender's watcher (the watchers are spread over the room), has seen it; with --release all, when
 *       all listeners have. Its sender then sends the next at once.
 *   open loop (--rate R)  R messages a second, evenly spaced, whatever comes back. Latency counts from when a
 *       message was due, so that a generator or a server that falls behind is not excused.
 *
 * All begin alike: everybody connects, then senders send single messages until every listener has seen one of
 * each, then the warm-up, then the measured period, then it waits until all has arrived, and prints one JSON
 * object. Senders are members too: they read and check what they get, but only listeners' deliveries count.
 *
 * It ends by itself: after --timeout seconds at the latest, with what it knows.
 */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 512,
    READ_SIZE = 128 * 1024,
    BUFFER_SIZE = 1024 * 1024,
    SAMPLES = 16,           /* listeners at which latency is measured */
    JOINS_A_MS = 2,         /* outside a storm */
    PROBE_SECONDS = 30,
    AFTER_STORM = 2,        /* s: until all have been told who came */
    TICK = 10,              /* ms */
    SLOW_BUFFER = 8 * 1024, /* a slow reader's receive buffer: the kernel must not hide that it is slow */
};

static const uint64_t MS = 1000000, SECOND = 1000000000;

static struct {
    const char *host, *dialect, *release;
    int port, listeners, senders, rooms, size, joins_at_once;
    int in_flight;
    double rate;
    double warm_up, seconds;
    long count;
    int slow, stopped;
    double slow_rate;
    int storm;
    bool comeback;
    double pings;
    int pid;
    double drain;
    int timeout;
} opt = {
    .host = "127.0.0.1",
    .dialect = "raw",
    .release = "one",
    .listeners = 10,
    .senders = 4,
    .rooms = 1,
    .size = 64,
    .joins_at_once = 256,
    .warm_up = 1,
    .seconds = 3,
    .slow_rate = 1024,
    .drain = 10,
    .timeout = 120,
};

const struct dialect *dialect;
struct sender *senders;
char mark[9];
int rooms, text_size;
const char *host_header;
bool track_seq;

static struct sockaddr_in address;
static struct conn *conns;
static int conn_count;
static int *sender_room, *sender_slot;
static int epoll_fd, timer_fd;
static char *buffer;
static volatile sig_atomic_t expired;

/* Where connecting stands. */
static int waiting, joining, joins_at_once, next_to_connect;
static bool storm_begun, server_up = true;
static uint64_t retry_at, back_at;

/* Where the load stands. */
static bool running, measuring, release_all, rotate_senders;
static long unseen, to_send;
static int *dirty, dirty_count, next_sender;
static uint64_t first_due, sent_open, next_tick, next_sample, next_ping;

/* What was measured. */
static uint64_t delivered, sent_total, arrived_at, lost_at;
static struct histogram latency, pings, join_times, live_times;
static struct errors errors;
static struct {
    uint64_t begin, end, delivered, sent;
    double own_cpu, server_cpu;
    long rss_before, rss_connected, rss_begin, rss_peak, rss_end;
    double drain_seconds;
} result;

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("calloc");
    return memory;
}

static void note_error(const char *text, size_t length)
{
    if (*errors.first)
        return;
    size_t n = length < sizeof errors.first - 1 ? length : sizeof errors.first - 1;
    for (size_t i = 0; i < n; i++)
        errors.first[i] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' ? '\'' : text[i];
}

void refused(struct conn *c, const char *line, size_t length)
{
    (void)c;
    errors.refused++;
    note_error(line, length);
}

/* ---- connections ---- */

/* Nobody waits until it has seen its first messages. */
static void expect_nothing(struct conn *c)
{
    for (int i = 0; i < opt.senders / rooms; i++)
        unseen -= c->role == LISTENER && !c->stormer && c->next[i] == NONE;
}

static void connection_lost(struct conn *c, const char *why)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    if (c->state == CONNECTING || c->state == JOINING)
        joining--;
    c->live = false;
    c->rest_length = c->out_length = 0;
    if (opt.comeback || c->state == CONNECTING) {
        if (!lost_at)
            lost_at = now_ns();
        c->state = WAITING;
        waiting++;
        server_up = false;
        retry_at = now_ns() + 10 * MS;
    } else {
        c->state = GONE;
        errors.lost++;
        note_error(why, strlen(why));
        expect_nothing(c);
    }
}

static void append(char **bytes, size_t *length, size_t *size, const char *more, size_t count)
{
    if (*length + count > *size) {
        *size = (*length + count) * 2;
        if (!(*bytes = realloc(*bytes, *size)))
            fail("realloc");
    }
    memcpy(*bytes + *length, more, count);
    *length += count;
}

void conn_send(struct conn *c, const char *bytes, size_t length)
{
    ssize_t n = 0;
    if (!c->out_length) {
        n = send(c->fd, bytes, length, MSG_NOSIGNAL);
        if (n < 0)
            n = 0; /* full, or broken: then the next read says so */
    }
    if ((size_t)n < length)
        append(&c->out, &c->out_length, &c->out_size, bytes + n, length - (size_t)n);
}

void conn_print(struct conn *c, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    conn_send(c, line, (size_t)n);
}

static void send_rest(struct conn *c)
{
    ssize_t n = send(c->fd, c->out, c->out_length, MSG_NOSIGNAL);
    if (n <= 0)
        return;
    c->out_length -= (size_t)n;
    memmove(c->out, c->out + n, c->out_length);
}

static void watch(struct conn *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event))
        fail("epoll_ctl");
}

static void connected(struct conn *c)
{
    server_up = true;
    if (!back_at)
        back_at = now_ns();
    c->state = JOINING;
    dialect->greet(c);
    if (!dialect->acknowledges)
        joined(c);
}

static void start_connecting(struct conn *c)
{
    int on = 1, small = SLOW_BUFFER;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (c->pace != FAST)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    waiting--;
    joining++;
    c->state = CONNECTING;
    if (!c->connect_time)
        c->connect_time = now_ns();
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        connection_lost(c, "connection refused");
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

static bool may_connect(int limit)
{
    return waiting && joining < limit && (server_up || now_ns() >= retry_at);
}

/* While the server is down, one at a time tries. */
static void connect_waiting(void)
{
    static uint64_t last_millisecond;
    bool slowly = joins_at_once == opt.joins_at_once;
    int limit = server_up ? joins_at_once : 1;
    if (slowly && now_ns() / MS == last_millisecond)
        return;
    last_millisecond = now_ns() / MS;
    if (slowly && limit > joining + JOINS_A_MS)
        limit = joining + JOINS_A_MS;
    for (int i = 0; i < conn_count && may_connect(limit); i++) {
        struct conn *c = &conns[next_to_connect];
        next_to_connect = (next_to_connect + 1) % conn_count;
        if (c->state == WAITING && (storm_begun || !c->stormer))
            start_connecting(c);
    }
}

static void send_again(struct sender *);

void joined(struct conn *c)
{
    if (c->state != JOINING)
        return;
    c->state = IN;
    joining--;
    c->in_time = now_ns();
    if (c->stormer)
        histogram_add(&join_times, c->in_time - c->connect_time);
    if (c->role == SENDER)
        send_again(&senders[c->index]);
}

/* ---- what arrives ---- */

static void became_live(struct conn *c)
{
    c->live = true;
    c->live_time = now_ns();
    if (c->stormer)
        histogram_add(&live_times, c->live_time - c->connect_time);
}

static void release(struct sender *s)
{
    int i = rotate_senders ? next_sender++ % opt.senders : (int)(s - senders);
    if (running && opt.in_flight && senders[i].due++ == 0)
        dirty[dirty_count++] = i;
}

/* Not the number that was expected. */
static void out_of_step(const struct conn *c, uint32_t *next, uint32_t number)
{
    if (*next == NONE) {
        unseen -= c->role == LISTENER && !c->stormer;
    } else if (number < *next) {
        errors.repeated++;
        return;
    } else {
        errors.missing += number - *next;
    }
    *next = number + 1;
}

void message_seen(struct conn *c, const char *text)
{
    uint32_t from = read_digits4(text + SENDER_AT), number = read_digits8(text + NUMBER_AT);
    if (from >= (uint32_t)opt.senders || sender_room[from] != c->room) {
        refused(c, text, HEAD);
        return;
    }
    uint32_t *next = &c->next[sender_slot[from]];
    if (*next == number)
        ++*next;
    else
        out_of_step(c, next, number);
    c->messages++;
    if (!c->live)
        became_live(c);
    if (c->sampled && measuring)
        histogram_add(&latency, arrived_at - read_time(text));
    if (!c->counted)
        return;
    delivered++;
    struct sender *s = &senders[from];
    if (release_all) {
        uint16_t *left = &s->left[number % UNKEPT];
        if (*left && --*left == 0)
            release(s);
    } else if (s->watcher == c) {
        release(s);
    }
}

void receipt_seen(struct conn *c, uint32_t number)
{
    struct sender *s = &senders[c->index];
    if (number >= s->kept)
        s->kept = number + 1;
}

void pong_seen(struct conn *c)
{
    if (c->ping_first != c->ping_last && measuring)
        histogram_add(&pings, now_ns() - c->pings[c->ping_first % 64]);
    c->ping_first++;
}

static void keep_rest(struct conn *c, const char *bytes, size_t length)
{
    c->rest_length = 0;
    if (length)
        append(&c->rest, &c->rest_length, &c->rest_size, bytes, length);
}

static void flush_dirty(void);

enum outcome { FULL, SHORT, NOTHING };

/* Reads once: as much as was asked for, less, or nothing. */
static enum outcome read_some(struct conn *c, size_t most)
{
    size_t have = c->rest_length, space = BUFFER_SIZE - have;
    most = most < space ? most : space;
    memcpy(buffer, c->rest, have);
    ssize_t n = recv(c->fd, buffer + have, most, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return NOTHING;
    if (n <= 0) {
        connection_lost(c, n ? strerror(errno) : "closed by the server");
        return NOTHING;
    }
    if (c->sampled)
        arrived_at = now_ns();
    c->bytes += (uint64_t)n;
    size_t taken = consume(c, buffer, have + (size_t)n);
    if (!taken && most == space) {
        connection_lost(c, "a line without end");
        return NOTHING;
    }
    keep_rest(c, buffer + taken, have + (size_t)n - taken);
    flush_dirty();
    return (size_t)n == most ? FULL : SHORT;
}

static void on_event(struct conn *c, uint32_t events)
{
    if (c->state == CONNECTING) {
        if (events & (EPOLLERR | EPOLLHUP)) {
            connection_lost(c, "connection refused");
            return;
        }
        connected(c);
    }
    if (c->out_length && events & EPOLLOUT)
        send_rest(c);
    if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
        return;
    /* A short read has emptied the socket, unless the end of the stream is behind it. */
    enum outcome last = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) ? SHORT : FULL;
    while (read_some(c, READ_SIZE) <= last)
        ;
}

/* ---- sending ---- */

static void put_message(struct sender *s, char *at, uint32_t number, uint64_t time)
{
    memcpy(at, s->form, s->form_length);
    put_digits(at + s->text_at + NUMBER_AT, number, 8);
    put_digits(at + s->text_at + TIME_AT, time, 12);
    if (s->id_at)
        put_digits(at + s->id_at, number, 8);
}

static void begin_message(struct sender *s, uint64_t time)
{
    s->times[s->sent % UNKEPT] = time;
    s->left[s->sent % UNKEPT] = running ? (uint16_t)s->room_members : 0;
    s->sent++;
    sent_total++;
    if (to_send && --to_send == 0)
        running = false;
}

/* Sends `count` messages that were due from `time` on, `apart` ns from each other. */
static void send_messages(struct sender *s, uint32_t count, uint64_t time, uint64_t apart)
{
    static char batch[64 * 1024];
    bool connected = s->conn->state == IN;
    size_t length = 0;
    if (!connected && !dialect->receipts)
        return;
    for (uint32_t i = 0; i < count; i++, time += apart) {
        if (length + s->form_length > sizeof batch) {
            conn_send(s->conn, batch, length);
            length = 0;
        }
        if (connected) {
            put_message(s, batch + length, s->sent, time);
            length += s->form_length;
        }
        begin_message(s, time);
    }
    if (connected)
        conn_send(s->conn, batch, length);
}

/* What had no receipt when the connection was lost: the same text, under the same id. */
static void send_again(struct sender *s)
{
    char message[8192];
    for (uint32_t number = s->kept; dialect->receipts && number < s->sent; number++) {
        put_message(s, message, number, s->times[number % UNKEPT]);
        conn_send(s->conn, message, s->form_length);
    }
}

static void flush_dirty(void)
{
    for (int i = 0; i < dirty_count; i++) {
        struct sender *s = &senders[dirty[i]];
        uint32_t due = s->due;
        s->due = 0;
        if (running)
            send_messages(s, to_send && due > to_send ? (uint32_t)to_send : due, now_ns(), 0);
    }
    dirty_count = 0;
}

static uint64_t due_time(uint64_t number)
{
    return first_due + (uint64_t)((double)number * 1e9 / opt.rate);
}

static void set_timer(uint64_t ns_from_now)
{
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(ns_from_now / SECOND),
                                           .tv_nsec = (long)(ns_from_now % SECOND)}};
    timerfd_settime(timer_fd, 0, &when, NULL);
}

static void send_open_loop(void)
{
    if (!running || opt.rate <= 0)
        return;
    uint64_t now = now_ns();
    while (running && due_time(sent_open) <= now) {
        send_messages(&senders[sent_open % (uint64_t)opt.senders], 1, due_time(sent_open), 0);
        sent_open++;
    }
    uint64_t next = due_time(sent_open);
    set_timer(next > now ? next - now : 1);
}

/* ---- the loop ---- */

static void read_slowly(struct conn *c, double seconds)
{
    c->allowance += opt.slow_rate * seconds;
    if (c->allowance > opt.slow_rate)
        c->allowance = opt.slow_rate;
    if (c->fd < 0 || c->allowance < 1)
        return;
    uint64_t before = c->bytes;
    read_some(c, (size_t)c->allowance);
    c->allowance -= (double)(c->bytes - before);
}

static void send_ping(void)
{
    struct conn *c = &conns[conn_count - 1];
    if (c->role != PINGER || c->state != IN || c->ping_last - c->ping_first == 64)
        return;
    c->pings[c->ping_last++ % 64] = now_ns();
    dialect->ping(c);
}

static void sample_server(void)
{
    long rss = opt.pid ? process_rss_kib(opt.pid) : 0;
    if (rss > result.rss_peak)
        result.rss_peak = rss;
}

static void tick(uint64_t now)
{
    static uint64_t before;
    double seconds = before ? (double)(now - before) / 1e9 : 0;
    before = now;
    for (int i = 0; i < conn_count && running && opt.slow; i++)
        if (conns[i].pace == SLOW)
            read_slowly(&conns[i], seconds);
    if (now >= next_sample) {
        sample_server();
        next_sample = now + 100 * MS;
    }
    if (opt.pings > 0 && measuring && now >= next_ping) {
        send_ping();
        next_ping = now + (uint64_t)(1e9 / opt.pings);
    }
}

static void turn(void)
{
    struct epoll_event events[EVENTS];
    bool connecting = waiting && (storm_begun || waiting > opt.storm);
    if (connecting)
        connect_waiting();
    int count = epoll_wait(epoll_fd, events, EVENTS, connecting ? 1 : TICK);
    for (int i = 0; i < count; i++) {
        struct conn *c = events[i].data.ptr;
        uint64_t times;
        if (!c)
            (void)!read(timer_fd, &times, sizeof times);
        else if (c->fd >= 0)
            on_event(c, events[i].events);
    }
    send_open_loop();
    uint64_t now = now_ns();
    if (now >= next_tick) {
        tick(now);
        next_tick = now + TICK * MS;
    }
}

/* Until `done` says so or the time is over. Asks 50 times a second. */
static bool run_until(bool (*done)(void), double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), ask = 0;
    while (!expired) {
        uint64_t now = now_ns();
        if (done && now >= ask) {
            if (done())
                return true;
            ask = now + 20 * MS;
        }
        if (now >= end)
            return false;
        turn();
    }
    return false;
}

/* ---- the phases ---- */

static bool all_in(void)
{
    for (int i = 0; i < conn_count; i++)
        if (conns[i].state != IN && conns[i].state != GONE && (storm_begun || !conns[i].stormer))
            return false;
    return true;
}

static bool all_seen(void)
{
    return !unseen;
}

static bool has_all(const struct conn *c)
{
    for (int s = c->room; s < opt.senders; s += rooms) {
        uint32_t next = c->next[sender_slot[s]];
        bool came_after = next == NONE && c->stormer; /* after that sender's last message */
        if (next != senders[s].sent && !came_after)
            return false;
    }
    return true;
}

static bool all_arrived(void)
{
    for (int i = 0; i < conn_count; i++) {
        const struct conn *c = &conns[i];
        if (c->role == LISTENER && c->state == IN && c->live && !has_all(c))
            return false;
    }
    return true;
}

static bool load_over(void)
{
    return !running && (opt.in_flight || opt.rate > 0);
}

static bool storm_over(void)
{
    for (int i = 0; i < conn_count; i++)
        if (conns[i].stormer && !conns[i].live && conns[i].state != GONE)
            return false;
    return true;
}

static bool all_lost(void)
{
    return waiting == conn_count;
}

static bool all_back(void)
{
    for (int i = 0; i < conn_count; i++)
        if (conns[i].role == LISTENER && !conns[i].live)
            return false;
    return true;
}

static void probe(void)
{
    double limit = PROBE_SECONDS;
    while (!all_seen() && !expired && limit > 0) {
        for (int i = 0; i < opt.senders; i++)
            send_messages(&senders[i], 1, now_ns(), 0);
        run_until(all_seen, 0.25);
        limit -= 0.25;
    }
    run_until(all_arrived, opt.drain);
}

static void set_slow(void)
{
    for (int i = 0; i < conn_count; i++)
        if (conns[i].pace != FAST && conns[i].state == IN)
            watch(&conns[i], EPOLL_CTL_MOD, 0);
}

static void read_on(void)
{
    int large = BUFFER_SIZE;
    for (int i = 0; i < conn_count; i++) {
        if (conns[i].pace == FAST || conns[i].fd < 0)
            continue;
        setsockopt(conns[i].fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
        watch(&conns[i], EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    }
}

/*
 * All members acknowledge as those do who also say something: late, with what they send, or after two segments.
 * Kernels else acknowledge each read of a client that only listens, which costs this program more than the read.
 */
static void acknowledge_late(void)
{
    int off = 0;
    for (int i = 0; i < conn_count; i++)
        if (conns[i].fd >= 0)
            setsockopt(conns[i].fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
}

static void start_load(void)
{
    running = true;
    first_due = now_ns();
    send_open_loop();
    rotate_senders = opt.in_flight % opt.senders != 0;
    for (int i = 0; i < opt.in_flight; i++) {
        struct sender *s = &senders[i % opt.senders];
        if (s->due++ == 0)
            dirty[dirty_count++] = i % opt.senders;
    }
    flush_dirty();
}

static void begin_measuring(void)
{
    result.begin = now_ns();
    result.delivered = delivered;
    result.sent = sent_total;
    result.own_cpu = own_cpu_seconds();
    result.server_cpu = opt.pid ? process_cpu_seconds(opt.pid) : 0;
    result.rss_begin = result.rss_peak = opt.pid ? process_rss_kib(opt.pid) : 0;
    to_send = opt.count;
    measuring = true;
}

static void end_measuring(void)
{
    measuring = false;
    result.end = now_ns();
    result.delivered = delivered - result.delivered;
    result.sent = sent_total - result.sent;
    result.own_cpu = own_cpu_seconds() - result.own_cpu;
    double server_cpu = opt.pid ? process_cpu_seconds(opt.pid) : 0;
    result.server_cpu = server_cpu > result.server_cpu ? server_cpu - result.server_cpu : 0; /* it may be gone */
}

static void begin_storm(void)
{
    for (int i = 0; i < conn_count; i++) {
        conns[i].connect_time = 0;
        if (!conns[i].stormer)
            conns[i].bytes = conns[i].notices = 0;
    }
    storm_begun = true;
    joins_at_once = conn_count;
}

/* Whoever runs this program restarts the server when it reads this. */
static void wait_for_restart(void)
{
    joins_at_once = conn_count;
    back_at = 0;
    puts("{\"ready\": true}");
    fflush(stdout);
    run_until(all_lost, opt.timeout);
    back_at = 0;
}

static void measure(void)
{
    begin_measuring();
    if (opt.storm) {
        begin_storm();
        run_until(storm_over, opt.seconds);
        run_until(NULL, AFTER_STORM);
    } else if (opt.comeback) {
        wait_for_restart();
        run_until(all_back, opt.seconds);
    } else {
        run_until(load_over, opt.count ? opt.timeout : opt.seconds);
    }
    end_measuring();
}

static void drain(void)
{
    uint64_t begin = now_ns();
    running = false;
    read_on();
    run_until(all_arrived, opt.drain);
    result.drain_seconds = (double)(now_ns() - begin) / 1e9;
    sample_server();
    result.rss_end = opt.pid ? process_rss_kib(opt.pid) : 0;
}

/* ---- the report ---- */

static double microseconds(const struct histogram *h, double part)
{
    return histogram_at(h, part) / 1e3;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    printf("\"%s\": {\"count\": %llu, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}, ",
           name, (unsigned long long)h->count, microseconds(h, 0.5), microseconds(h, 0.9), microseconds(h, 0.99),
           microseconds(h, 0.999), (double)h->highest / 1e3);
}

static int count_in(void)
{
    int in = 0;
    for (int i = 0; i < conn_count; i++)
        in += conns[i].role == LISTENER && !conns[i].stormer && conns[i].state == IN;
    return in;
}

static void print_load(double seconds)
{
    printf("\"dialect\": \"%s\", \"listeners\": %d, \"senders\": %d, \"rooms\": %d, \"in_flight\": %d, \"rate\": %g, "
           "\"size\": %d, \"seconds\": %.3f, \"messages\": %llu, \"deliveries\": %llu, \"messages_per_second\": %.1f, "
           "\"deliveries_per_second\": %.1f, ",
           opt.dialect, opt.listeners, opt.senders, rooms, opt.in_flight, opt.rate, opt.size, seconds,
           (unsigned long long)result.sent, (unsigned long long)result.delivered, (double)result.sent / seconds,
           (double)result.delivered / seconds);
    print_histogram("latency_us", &latency);
    printf("\"generator_cpu_percent\": %.1f, \"server_cpu_percent\": %.1f, ", 100 * result.own_cpu / seconds,
           100 * result.server_cpu / seconds);
    printf("\"server_rss_kib\": {\"before\": %ld, \"connected\": %ld, \"begin\": %ld, \"peak\": %ld, \"end\": %ld}, ",
           result.rss_before, result.rss_connected, result.rss_begin, result.rss_peak, result.rss_end);
    printf("\"in\": %d, \"drain_seconds\": %.3f, ", count_in(), result.drain_seconds);
}

static void print_slow(void)
{
    int present = 0, complete = 0;
    uint64_t fewest = UINT64_MAX;
    for (int i = 0; i < conn_count; i++) {
        const struct conn *c = &conns[i];
        if (c->pace == FAST)
            continue;
        present += c->state == IN;
        complete += c->state == IN && has_all(c);
        fewest = c->messages < fewest ? c->messages : fewest;
    }
    printf("\"slow\": {\"readers\": %d, \"connected\": %d, \"complete\": %d, \"fewest_messages\": %llu}, ",
           opt.slow + opt.stopped, present, complete, (unsigned long long)fewest);
}

static void print_storm(void)
{
    uint64_t last_in = 0, last_live = 0, notices = 0, bytes = 0;
    int in = 0, live = 0;
    for (int i = 0; i < conn_count; i++) {
        const struct conn *c = &conns[i];
        if (c->stormer) {
            in += c->state == IN;
            live += c->live;
            last_in = c->in_time > last_in ? c->in_time : last_in;
            last_live = c->live_time > last_live ? c->live_time : last_live;
        } else if (c->role == LISTENER) {
            notices = c->notices > notices ? c->notices : notices;
            bytes = c->bytes > bytes ? c->bytes : bytes;
        }
    }
    printf("\"storm\": {\"clients\": %d, \"in\": %d, \"live\": %d, \"seconds_until_in\": %.3f, "
           "\"seconds_until_live\": %.3f, \"observer_notices\": %llu, \"observer_bytes\": %llu, ",
           opt.storm, in, live, (double)(last_in - result.begin) / 1e9, (double)(last_live - result.begin) / 1e9,
           (unsigned long long)notices, (unsigned long long)bytes);
    print_histogram("join_us", &join_times);
    print_histogram("live_us", &live_times);
    printf("\"over\": %s}, ", storm_over() ? "true" : "false");
}

static void print_comeback(void)
{
    uint64_t last_in = 0, last_live = 0;
    int in = 0, live = 0;
    for (int i = 0; i < conn_count; i++) {
        const struct conn *c = &conns[i];
        if (c->role != LISTENER)
            continue;
        in += c->state == IN;
        live += c->live;
        last_in = c->in_time > last_in ? c->in_time : last_in;
        last_live = c->live_time > last_live ? c->live_time : last_live;
    }
    printf("\"comeback\": {\"in\": %d, \"live\": %d, \"seconds_away\": %.3f, \"seconds_until_in\": %.3f, "
           "\"seconds_until_live\": %.3f}, ",
           in, live, (double)(back_at - lost_at) / 1e9, (double)(last_in - back_at) / 1e9,
           (double)(last_live - back_at) / 1e9);
}

/* How many listeners did not get every message to the end. */
static int count_incomplete(void)
{
    int incomplete = 0;
    for (int i = 0; i < conn_count; i++)
        incomplete += conns[i].role == LISTENER && (conns[i].state != IN || !conns[i].live || !has_all(&conns[i]));
    return incomplete;
}

static void explain_time_out(void)
{
    char text[128];
    int missing = 0;
    for (int i = 0; i < conn_count; i++)
        missing += conns[i].state != IN && conns[i].state != GONE;
    snprintf(text, sizeof text, "timed out: %d not in, %ld first messages not seen", missing, unseen);
    note_error(text, strlen(text));
}

static bool report(void)
{
    if (expired)
        explain_time_out();
    int incomplete = opt.in_flight || opt.rate > 0 ? count_incomplete() : 0;
    bool fine = !incomplete && !errors.lost && !errors.refused && !errors.missing && !errors.repeated && !expired;
    printf("{");
    print_load((double)(result.end - result.begin) / 1e9);
    if (opt.slow || opt.stopped)
        print_slow();
    if (opt.storm)
        print_storm();
    if (opt.comeback)
        print_comeback();
    if (opt.pings > 0)
        print_histogram("ping_us", &pings);
    printf("\"errors\": {\"lost\": %llu, \"refused\": %llu, \"missing\": %llu, \"repeated\": %llu, \"incomplete\": %d, "
           "\"timed_out\": %s, \"first\": \"%s\"}, \"verified\": %s}\n",
           (unsigned long long)errors.lost, (unsigned long long)errors.refused, (unsigned long long)errors.missing,
           (unsigned long long)errors.repeated, incomplete, expired ? "true" : "false", errors.first,
           fine ? "true" : "false");
    return fine;
}

/* ---- setting up ---- */

static void make_mark(void)
{
    mark[0] = 'x';
    put_digits(mark + 1, now_ns() ^ (uint64_t)time(NULL) << 8 ^ (uint64_t)getpid() * 40503, 7);
}

static void init_conn(struct conn *c, enum role role, int index, int room)
{
    int slots = opt.senders / rooms;
    *c = (struct conn){.fd = -1, .role = role, .index = index, .room = room};
    c->next = allocate((size_t)slots, sizeof *c->next);
    for (int i = 0; i < slots; i++)
        c->next[i] = NONE;
    waiting++;
}

static void init_listener(struct conn *c, int index)
{
    int fast = opt.listeners - opt.slow - opt.stopped;
    int every = fast > SAMPLES ? fast / SAMPLES : 1;
    init_conn(c, LISTENER, index, index % rooms);
    c->stormer = index >= opt.listeners;
    c->counted = index < fast;
    c->sampled = c->counted && index % every == every / 2;
    if (index >= fast && index < fast + opt.slow)
        c->pace = SLOW;
    else if (index >= fast && !c->stormer)
        c->pace = STOPPED;
    if (!c->stormer)
        unseen += opt.senders / rooms;
    if (c->counted)
        for (int s = c->room; s < opt.senders; s += rooms)
            senders[s].room_members++;
}

/* Spread over the listeners of the sender's room. */
static struct conn *choose_watcher(int s)
{
    int in_room = (opt.listeners - opt.slow - opt.stopped) / rooms, of_room = opt.senders / rooms;
    int place = (int)(((double)(s / rooms) + 0.5) * in_room / of_room);
    return &conns[place * rooms + s % rooms];
}

static void init_sender(int s)
{
    char form[4096];
    struct sender *sender = &senders[s];
    sender->conn = &conns[opt.listeners + opt.storm + s];
    init_conn(sender->conn, SENDER, s, s % rooms);
    sender->form_length = dialect->form(sender->conn, form, sizeof form, &sender->text_at, &sender->id_at);
    memcpy(form + sender->text_at, mark, 8);
    put_digits(form + sender->text_at + SENDER_AT, (uint64_t)s, 4);
    for (int i = HEAD; i < opt.size; i++)
        form[sender->text_at + (size_t)i] = (char)('a' + i % 26);
    sender->form = allocate(1, sender->form_length);
    memcpy(sender->form, form, sender->form_length);
    sender->left = allocate(UNKEPT, sizeof *sender->left);
    sender->times = allocate(UNKEPT, sizeof *sender->times);
    sender->watcher = choose_watcher(s);
    sender_room[s] = s % rooms;
    sender_slot[s] = s / rooms;
}

static void init_members(void)
{
    conn_count = opt.listeners + opt.storm + opt.senders + (opt.pings > 0);
    conns = allocate((size_t)conn_count, sizeof *conns);
    senders = allocate((size_t)opt.senders, sizeof *senders);
    sender_room = allocate((size_t)opt.senders, sizeof *sender_room);
    sender_slot = allocate((size_t)opt.senders, sizeof *sender_slot);
    dirty = allocate((size_t)opt.senders, sizeof *dirty);
    for (int i = 0; i < opt.listeners + opt.storm; i++)
        init_listener(&conns[i], i);
    for (int s = 0; s < opt.senders; s++)
        init_sender(s);
    if (opt.pings > 0)
        init_conn(&conns[conn_count - 1], PINGER, 0, 0);
    joins_at_once = opt.joins_at_once;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void on_alarm(int signal)
{
    (void)signal;
    if (expired)
        _exit(4);
    expired = 1;
    alarm(10);
}

static void open_loop_and_timer(void)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_fd < 0 || timer_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event))
        fail("epoll");
    buffer = allocate(1, BUFFER_SIZE + 1);
    signal(SIGALRM, on_alarm);
    alarm((unsigned)opt.timeout);
}

static void set_address(void)
{
    static char header[64];
    const char *host = strcmp(opt.host, "localhost") ? opt.host : "127.0.0.1";
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)opt.port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || ntohl(address.sin_addr.s_addr) >> 24 != 127) {
        fprintf(stderr, "loadgen: %s is not an address of this machine (127.x.x.x)\n", opt.host);
        exit(2);
    }
    snprintf(header, sizeof header, "%s:%d", host, opt.port);
    host_header = header;
}

static void usage(void)
{
    fputs("usage: loadgen --port PORT [--host 127.0.0.1] [--dialect raw|text|json|ws|irc]\n"
          "  who:    --listeners N --senders S --rooms M --size BYTES --joins-at-once N (but in a storm)\n"
          "  load:   --in-flight F (closed loop) [--release one|all], or --rate R (open loop), or neither (idle)\n"
          "  time:   --warm-up S --seconds S | --count MESSAGES, --drain S, --timeout S\n"
          "  slow:   --slow K --slow-rate BYTES_PER_SECOND, --stopped L: the last K + L listeners\n"
          "  storm:  --storm N join at once when the measured period begins; --comeback: all are lost and come back\n"
          "  also:   --pings R a second from a member in no room; --pid SERVER for its CPU and memory\n",
          stderr);
    exit(2);
}

static void check_options(void)
{
    int fast = opt.listeners - opt.slow - opt.stopped;
    if (opt.rooms > 1 && !dialect->rooms)
        opt.rooms = 1;
    rooms = opt.rooms < 1 ? 1 : opt.rooms;
    opt.senders = (opt.senders + rooms - 1) / rooms * rooms;
    text_size = opt.size;
    release_all = !strcmp(opt.release, "all");
    track_seq = opt.comeback;
    bool wrong = opt.port <= 0 || opt.size < HEAD || opt.size > 3000 || fast < rooms || fast % rooms ||
                 opt.senders < 1 || opt.senders > 65535 || (opt.in_flight && opt.rate > 0) ||
                 (release_all && opt.in_flight >= UNKEPT) || (opt.pings > 0 && !dialect->ping);
    if (wrong)
        usage();
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'},      {"port", 1, 0, 'p'},    {"dialect", 1, 0, 'd'},   {"listeners", 1, 0, 'n'},
        {"senders", 1, 0, 's'},   {"rooms", 1, 0, 'm'},   {"in-flight", 1, 0, 'f'}, {"rate", 1, 0, 'r'},
        {"size", 1, 0, 'z'},      {"warm-up", 1, 0, 'w'}, {"seconds", 1, 0, 't'},   {"count", 1, 0, 'c'},
        {"release", 1, 0, 'R'},   {"slow", 1, 0, 'k'},    {"slow-rate", 1, 0, 'b'}, {"stopped", 1, 0, 'l'},
        {"storm", 1, 0, 'S'},     {"comeback", 0, 0, 'C'}, {"pings", 1, 0, 'P'},    {"pid", 1, 0, 'i'},
        {"drain", 1, 0, 'D'},     {"timeout", 1, 0, 'T'}, {"joins-at-once", 1, 0, 'j'}, {0},
    };
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (c) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 'd': opt.dialect = optarg; break;
        case 'n': opt.listeners = atoi(optarg); break;
        case 's': opt.senders = atoi(optarg); break;
        case 'm': opt.rooms = atoi(optarg); break;
        case 'f': opt.in_flight = atoi(optarg); break;
        case 'r': opt.rate = atof(optarg); break;
        case 'z': opt.size = atoi(optarg); break;
        case 'w': opt.warm_up = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'c': opt.count = atol(optarg); break;
        case 'R': opt.release = optarg; break;
        case 'k': opt.slow = atoi(optarg); break;
        case 'b': opt.slow_rate = atof(optarg); break;
        case 'l': opt.stopped = atoi(optarg); break;
        case 'S': opt.storm = atoi(optarg); break;
        case 'C': opt.comeback = true; break;
        case 'P': opt.pings = atof(optarg); break;
        case 'i': opt.pid = atoi(optarg); break;
        case 'D': opt.drain = atof(optarg); break;
        case 'T': opt.timeout = atoi(optarg); break;
        case 'j': opt.joins_at_once = atoi(optarg); break;
        default: usage();
        }
    }
    dialect = find_dialect(opt.dialect);
    if (!dialect || optind < argc)
        usage();
}

/* Resets instead of farewells: no port stays behind in TIME_WAIT for the next run. */
static void close_all(void)
{
    struct linger reset = {.l_onoff = 1};
    for (int i = 0; i < conn_count; i++)
        if (conns[i].fd >= 0) {
            setsockopt(conns[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(conns[i].fd);
        }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    check_options();
    set_address();
    make_mark();
    raise_descriptor_limit();
    init_members();
    open_loop_and_timer();
    result.rss_before = opt.pid ? process_rss_kib(opt.pid) : 0;

    run_until(all_in, opt.timeout);
    result.rss_connected = opt.pid ? process_rss_kib(opt.pid) : 0;
    if (opt.in_flight || opt.rate > 0)
        probe();
    set_slow();
    acknowledge_late();
    start_load();
    run_until(load_over, opt.warm_up);
    measure();
    drain();
    bool fine = report();
    close_all();
    return fine ? 0 : 1;
}
