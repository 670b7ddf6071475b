/*
 * The parts of the load generator, and what they know of each other.
 *
 *   loadgen.c    options, connections, the loop, the report
 *   dialects.c   what is said to a server of each kind, and what its lines mean
 *   measure.c    clocks, histograms, what /proc tells about the server
 */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NONE UINT32_MAX

/*
 * A message's text begins with this, all of it in the digits a to p, so that no server has a reason to
 * change it: a mark of this run, the sender, its number, when it was sent (in ns). The rest is padding.
 */
enum {
    MARK_AT = 0,
    SENDER_AT = 8,
    NUMBER_AT = 12,
    TIME_AT = 20,
    HEAD = 32,
    UNKEPT = 8192, /* so many messages of a sender can wait for their receipts, a power of two */
};

enum role { LISTENER, SENDER, PINGER };

enum state {
    WAITING,    /* not connected yet, or lost and to be connected again */
    CONNECTING, /* connect() is under way */
    JOINING,    /* connected; the server has not said yet that we are in */
    IN,
    GONE,
};

enum pace { FAST, SLOW, STOPPED };

struct conn {
    int fd;
    enum role role;
    enum state state;
    enum pace pace;
    bool counted;    /* its deliveries count, and the closed loop waits for it */
    bool sampled;    /* latency is measured here */
    bool observer;   /* what it saw of a storm is reported */
    bool stormer;    /* it connects when the storm begins */
    bool live;       /* it has seen a message since it was last connected */
    bool upgraded;   /* WebSocket: the handshake is over */
    int index;       /* its number in its role */
    int room;
    uint32_t *next;  /* for each sender of its room: the number expected next */
    char *rest;      /* the begun line or frame */
    size_t rest_length, rest_size;
    char *out;       /* what the socket did not take */
    size_t out_length, out_size;
    uint64_t connect_time, in_time, live_time;
    uint64_t messages, notices, bytes;
    double allowance; /* bytes that a slow reader may read now */
    char token[80];  /* JSON */
    uint64_t last_seq;
    uint64_t pings[64]; /* a pinger: when those under way were sent */
    unsigned ping_first, ping_last;
};

struct sender {
    struct conn *conn;
    struct conn *watcher; /* the listener whose sight of a message takes it out of flight */
    char *form;           /* one message, ready to be sent but for its numbers */
    size_t form_length;
    size_t text_at, id_at; /* where in it they go; id_at is 0 where there is none */
    uint32_t sent;        /* the number of the next message */
    uint32_t kept;        /* the receipts have come for all before */
    uint32_t due;         /* to be sent now */
    uint32_t room_members; /* counted listeners that have to see its messages */
    uint16_t *left;       /* how many have not seen them yet, by number modulo UNKEPT */
    uint64_t *times;      /* what stands in the texts, by number modulo UNKEPT */
};

struct histogram {
    uint64_t count, highest;
    uint64_t buckets[64 * 64];
};

struct errors {
    uint64_t lost, refused, missing, repeated;
    char first[200];
};

struct dialect {
    const char *name;
    bool rooms;        /* knows rooms */
    bool acknowledges; /* tells a member that it is in */
    bool framed;       /* WebSocket */
    bool receipts;
    /* What to say once connected. */
    void (*greet)(struct conn *);
    /* The bytes before and after a message's text; the text ends up between them. */
    size_t (*form)(const struct conn *, char *buffer, size_t size, size_t *text_at, size_t *id_at);
    /* Any line that was not recognised as a message by its shape. Without its line feed. */
    void (*line)(struct conn *, char *line, size_t length);
    void (*ping)(struct conn *);
};

/* loadgen.c */
extern const struct dialect *dialect;
extern struct sender *senders;
extern char mark[9];
extern int rooms;
extern int text_size;
extern const char *host_header;
extern bool track_seq; /* the last number seen is wanted: every message's line is read in full */

void conn_send(struct conn *, const char *bytes, size_t length);
void conn_print(struct conn *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void joined(struct conn *);
void refused(struct conn *, const char *line, size_t length);
void message_seen(struct conn *, const char *text);
void receipt_seen(struct conn *, uint32_t number);
void pong_seen(struct conn *);

/* dialects.c */
const struct dialect *find_dialect(const char *name);
size_t consume(struct conn *, char *bytes, size_t length);
void room_name(int room, char name[16]);
void put_digits(char *at, uint64_t value, int digits);

static inline uint32_t read_digits8(const char *at)
{
    uint64_t v;
    __builtin_memcpy(&v, at, 8);
    v = __builtin_bswap64(v) - 0x6161616161616161u;
    v = (v | v >> 4) & 0x00ff00ff00ff00ffu;
    v = (v | v >> 8) & 0x0000ffff0000ffffu;
    return (uint32_t)(v | v >> 16);
}

static inline uint32_t read_digits4(const char *at)
{
    uint32_t v;
    __builtin_memcpy(&v, at, 4);
    v = __builtin_bswap32(v) - 0x61616161u;
    v = (v | v >> 4) & 0x00ff00ffu;
    return (v | v >> 8) & 0xffffu;
}

static inline uint64_t read_time(const char *text)
{
    return (uint64_t)read_digits8(text + TIME_AT) << 16 | read_digits4(text + TIME_AT + 8);
}

/* measure.c */
uint64_t now_ns(void);
double own_cpu_seconds(void);
double process_cpu_seconds(int pid);
long process_rss_kib(int pid);
void histogram_add(struct histogram *, uint64_t value);
double histogram_at(const struct histogram *, double part);

#endif
