/* What is said to a server of each kind, and what its lines mean. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void put_digits(char *at, uint64_t value, int digits)
{
    while (digits--) {
        at[digits] = (char)('a' + (value & 15));
        value >>= 4;
    }
}

void room_name(int room, char name[16])
{
    if (rooms == 1)
        strcpy(name, "lobby");
    else
        snprintf(name, 16, "r%04d", room);
}

/* Of this run: names may be held for those of the last one. Nine letters, as IRC has it. */
static void nick(const struct conn *c, char name[16])
{
    snprintf(name, 16, "%c%05d%s", "msp"[c->role], c->index, mark + 5);
}

static bool begins(const char *line, size_t length, const char *prefix)
{
    size_t n = strlen(prefix);
    return length >= n && !memcmp(line, prefix, n);
}

/*
 * All messages of a server look alike but for their digits. So the last one's shape is tried first: a line
 * feed where its line ended and our mark where its text began. That finds most lines without searching.
 */
static struct {
    size_t length, text_at;
} shape;

static void message_line(struct conn *c, const char *line, size_t length, const char *text)
{
    shape.length = track_seq ? 0 : length + 1;
    shape.text_at = (size_t)(text - line);
    message_seen(c, text);
}

static const char *find_text(const char *line, size_t length)
{
    const char *text = memmem(line, length, mark, 8);
    return text && text + text_size <= line + length ? text : NULL;
}

/* Returns how many bytes were whole lines. */
static size_t scan_lines(struct conn *c, char *bytes, size_t length)
{
    char *p = bytes, *end = bytes + length;
    uint64_t wanted, found;
    memcpy(&wanted, mark, 8);
    while (p < end) {
        if (shape.length && (size_t)(end - p) >= shape.length && p[shape.length - 1] == '\n') {
            memcpy(&found, p + shape.text_at, 8);
            if (found == wanted) {
                message_seen(c, p + shape.text_at);
                p += shape.length;
                continue;
            }
        }
        char *feed = memchr(p, '\n', (size_t)(end - p));
        if (!feed)
            break;
        dialect->line(c, p, (size_t)(feed - p));
        p = feed + 1;
    }
    return (size_t)(p - bytes);
}

/* ---- plain lines: chatd's text door, and the references in C, which say nothing to who joins ---- */

static void greet_text(struct conn *c)
{
    char name[16], room[16];
    nick(c, name);
    conn_print(c, "%s\r\n", name);
    if (rooms > 1) {
        room_name(c->room, room);
        conn_print(c, "/join %s\r\n", room);
    }
}

static void greet_raw(struct conn *c)
{
    char name[16];
    nick(c, name);
    conn_print(c, "%s\n", name);
}

static size_t form_text(const struct conn *c, char *buffer, size_t size, size_t *text_at, size_t *id_at)
{
    (void)c, (void)size;
    *text_at = *id_at = 0;
    memcpy(buffer + text_size, "\r\n", 2);
    return (size_t)text_size + 2;
}

static size_t form_raw(const struct conn *c, char *buffer, size_t size, size_t *text_at, size_t *id_at)
{
    (void)c, (void)size;
    *text_at = *id_at = 0;
    buffer[text_size] = '\n';
    return (size_t)text_size + 1;
}

static void line_text(struct conn *c, char *line, size_t length)
{
    if (c->state == JOINING)
        joined(c);
    if (begins(line, length, "#")) /* history, shown on joining */
        return;
    if (begins(line, length, "! ")) {
        refused(c, line, length);
        return;
    }
    const char *text = find_text(line, length);
    if (text)
        message_line(c, line, length, text);
    else
        c->notices++;
}

/* ---- chatd's JSON lines ---- */

static void hello_json(struct conn *c, char *line, size_t size)
{
    char name[16], room[16], token[100] = "", after[32] = "null";
    nick(c, name);
    room_name(c->room, room);
    if (*c->token)
        snprintf(token, sizeof token, ",\"token\":\"%s\"", c->token);
    if (c->last_seq)
        snprintf(after, sizeof after, "%llu", (unsigned long long)c->last_seq);
    if (c->role == PINGER)
        snprintf(line, size, "{\"type\":\"hello\",\"name\":\"%s\"%s,\"rooms\":{}}\n", name, token);
    else
        snprintf(line, size, "{\"type\":\"hello\",\"name\":\"%s\"%s,\"rooms\":{\"%s\":%s}}\n", name, token, room, after);
}

static void greet_json(struct conn *c)
{
    char line[300];
    hello_json(c, line, sizeof line);
    conn_send(c, line, strlen(line));
}

static size_t form_json(const struct conn *c, char *buffer, size_t size, size_t *text_at, size_t *id_at)
{
    char room[16];
    room_name(c->room, room);
    *id_at = (size_t)snprintf(buffer, size, "{\"type\":\"say\",\"room\":\"%s\",\"id\":\"", room);
    *text_at = *id_at + (size_t)snprintf(buffer + *id_at, size - *id_at, "........\",\"text\":\"");
    size_t end = *text_at + (size_t)text_size;
    return end + (size_t)snprintf(buffer + end, size - end, "\"}\n");
}

/* The bytes after `"key":`, or NULL. */
static const char *json_value(const char *line, size_t length, const char *key)
{
    const char *found = memmem(line, length, key, strlen(key));
    return found ? found + strlen(key) : NULL;
}

static void remember_seq(struct conn *c, const char *line, size_t length)
{
    const char *seq = json_value(line, length, "\"seq\":");
    if (seq)
        c->last_seq = strtoull(seq, NULL, 10);
}

static void keep_token(struct conn *c, const char *line, size_t length)
{
    const char *token = json_value(line, length, "\"token\":\"");
    size_t n = 0;
    while (token && token + n < line + length && token[n] != '"' && n < sizeof c->token - 1)
        n++;
    if (token)
        memcpy(c->token, token, n);
    c->token[n] = 0;
}

static void line_json(struct conn *c, char *line, size_t length)
{
    const char *type = json_value(line, length < 32 ? length : 32, "\"type\":\"");
    size_t left = type ? (size_t)(line + length - type) : 0;
    line[length] = 0; /* its line feed: so that numbers end */
    if (begins(type, left, "message\"")) {
        const char *text = find_text(line, length);
        if (track_seq)
            remember_seq(c, line, length);
        if (text)
            message_line(c, line, length, text);
    } else if (begins(type, left, "kept\"")) {
        const char *id = json_value(line, length, "\"id\":\"");
        if (id)
            receipt_seen(c, read_digits8(id));
    } else if (begins(type, left, "error\"")) {
        refused(c, line, length);
    } else if (begins(type, left, "pong\"")) {
        pong_seen(c);
    } else if (begins(type, left, "welcome\"")) {
        keep_token(c, line, length);
        if (c->role == PINGER)
            joined(c);
    } else if (begins(type, left, "room\"")) {
        if (!c->last_seq)
            remember_seq(c, line, length);
        joined(c);
    } else if (type) {
        c->notices++;
    }
    line[length] = '\n';
}

static void ping_json(struct conn *c)
{
    conn_print(c, "{\"type\":\"ping\"}\n");
}

/* ---- IRC ---- */

static void greet_irc(struct conn *c)
{
    char name[16];
    nick(c, name);
    conn_print(c, "NICK %s\r\nUSER %s 0 * :%s\r\n", name, name, name);
}

static size_t form_irc(const struct conn *c, char *buffer, size_t size, size_t *text_at, size_t *id_at)
{
    char room[16];
    room_name(c->room, room);
    *id_at = 0;
    *text_at = (size_t)snprintf(buffer, size, "PRIVMSG #%s :", room);
    memcpy(buffer + *text_at + text_size, "\r\n", 2);
    return *text_at + (size_t)text_size + 2;
}

static void numeric_irc(struct conn *c, const char *line, size_t length, int number)
{
    char room[16];
    if (number == 1 && c->role == PINGER) {
        joined(c);
    } else if (number == 1) {
        room_name(c->room, room);
        conn_print(c, "JOIN #%s\r\n", room);
    } else if (number == 366) {
        joined(c);
    } else if (number >= 400 && number != 422) { /* 422: no message of the day */
        refused(c, line, length);
    }
}

static void line_irc(struct conn *c, char *line, size_t length)
{
    if (begins(line, length, "PING")) {
        conn_print(c, "PONG%.*s\n", (int)(length - 4), line + 4);
        return;
    }
    if (begins(line, length, "ERROR")) {
        refused(c, line, length);
        return;
    }
    const char *word = *line == ':' ? memchr(line, ' ', length) : NULL;
    size_t left = word ? (size_t)(line + length - ++word) : 0;
    const char *text;
    if (begins(word, left, "PRIVMSG ")) {
        if ((text = find_text(line, length)))
            message_line(c, line, length, text);
    } else if (begins(word, left, "PONG ")) {
        pong_seen(c);
    } else if (left >= 4 && word[0] >= '0' && word[0] <= '9' && word[3] == ' ') {
        numeric_irc(c, line, length, atoi(word));
    } else {
        c->notices++;
    }
}

static void ping_irc(struct conn *c)
{
    conn_print(c, "PING x\r\n");
}

/* ---- WebSocket: the JSON lines in frames. The mask is all zeros, which is allowed and costs nothing ---- */

static size_t put_header(char *at, size_t length)
{
    size_t n = 2;
    at[0] = (char)0x81;
    if (length < 126) {
        at[1] = (char)(0x80 | length);
    } else {
        at[1] = (char)(0x80 | 126);
        at[2] = (char)(length >> 8);
        at[3] = (char)length;
        n = 4;
    }
    memset(at + n, 0, 4);
    return n + 4;
}

static void send_frame(struct conn *c, const char *line, size_t length)
{
    char frame[512];
    size_t n = put_header(frame, length);
    memcpy(frame + n, line, length);
    conn_send(c, frame, n + length);
}

static void greet_ws(struct conn *c)
{
    c->upgraded = false;
    conn_print(c,
               "GET /ws HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: bG9hZGdlbmVyYXRvcjEyMw==\r\nSec-WebSocket-Version: 13\r\n\r\n",
               host_header, host_header);
}

static size_t form_ws(const struct conn *c, char *buffer, size_t size, size_t *text_at, size_t *id_at)
{
    char line[4096];
    size_t length = form_json(c, line, sizeof line, text_at, id_at);
    size_t header = put_header(buffer, length);
    if (header + length > size)
        abort();
    memcpy(buffer + header, line, length);
    *text_at += header;
    *id_at += header;
    return header + length;
}

static void ping_ws(struct conn *c)
{
    send_frame(c, "{\"type\":\"ping\"}", 15);
}

static size_t take_handshake(struct conn *c, const char *bytes, size_t length)
{
    char line[300];
    const char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (!begins(bytes, length, "HTTP/1.1 101"))
        refused(c, bytes, (size_t)(end - bytes));
    c->upgraded = true;
    hello_json(c, line, sizeof line);
    send_frame(c, line, strlen(line));
    return (size_t)(end - bytes) + 4;
}

static void take_payload(struct conn *c, int opcode, char *payload, size_t length)
{
    if (opcode == 1) {
        char after = payload[length]; /* the buffer has a byte to spare */
        payload[length] = '\n';
        scan_lines(c, payload, length + 1);
        payload[length] = after;
    } else if (opcode == 9) {
        char pong[6] = {(char)0x8a, (char)0x80};
        conn_send(c, pong, sizeof pong);
    } else {
        refused(c, "a frame that is neither text nor a ping", 39);
    }
}

static size_t scan_frames(struct conn *c, char *bytes, size_t length)
{
    size_t at = c->upgraded ? 0 : take_handshake(c, bytes, length);
    while (c->upgraded && length - at >= 2) {
        const unsigned char *h = (const unsigned char *)bytes + at;
        size_t header = 2, payload = h[1] & 127;
        if (payload == 126)
            header = 4;
        else if (payload == 127)
            header = 10;
        if (length - at < header)
            break;
        if (header > 2) {
            payload = 0;
            for (size_t i = 2; i < header; i++)
                payload = payload << 8 | h[i];
        }
        if (length - at - header < payload)
            break;
        take_payload(c, h[0] & 15, bytes + at + header, payload);
        at += header + payload;
    }
    return at;
}

/* Returns how many bytes were taken; the others are the beginning of something. */
size_t consume(struct conn *c, char *bytes, size_t length)
{
    return dialect->framed ? scan_frames(c, bytes, length) : scan_lines(c, bytes, length);
}

static const struct dialect dialects[] = {
    {"raw", .greet = greet_raw, .form = form_raw, .line = line_text},
    {"text", .rooms = true, .acknowledges = true, .greet = greet_text, .form = form_text, .line = line_text},
    {"json", .rooms = true, .acknowledges = true, .receipts = true,
     .greet = greet_json, .form = form_json, .line = line_json, .ping = ping_json},
    {"irc", .rooms = true, .acknowledges = true, .greet = greet_irc, .form = form_irc, .line = line_irc, .ping = ping_irc},
    {"ws", .rooms = true, .acknowledges = true, .framed = true, .receipts = true,
     .greet = greet_ws, .form = form_ws, .line = line_json, .ping = ping_ws},
};

const struct dialect *find_dialect(const char *name)
{
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++)
        if (!strcmp(dialects[i].name, name))
            return &dialects[i];
    return NULL;
}
