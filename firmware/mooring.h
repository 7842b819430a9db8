/* mooring.h: a device of mooring.v1 (docs/PROTOCOL.md) for microcontrollers.
 *
 * Rows go into a ring in memory that you give and stay there until the server
 * says that they are committed. mooring_poll() does everything else: connects,
 * sends, listens, comes back. No malloc, no globals, no floating point
 * arithmetic; C99 with <stdbool.h>, <stdint.h> and <string.h>.
 *
 * Nothing here is safe for use from interrupts or several threads at once: call
 * it all from one task. Callbacks must not call back into the client, but for
 * mooring_result() and mooring_append(), which a command may call, and
 * mooring_retry_after(), which is for open.
 *
 * Apache License 2.0.
 */
#ifndef MOORING_H
#define MOORING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The largest message that the server may send to us; told in HELLO (max_rx,
 * PROTOCOL 4.1). A message is taken in as it comes and read when it is whole. */
#define MOORING_RX 256

/* The switches below must be the same wherever this file is included.
 *
 * What the transport carries is known when a device is built. It is bytes (a socket, a
 * modem), and the client speaks WebSocket itself; or with MOORING_WEBSOCKET=0 whole
 * messages, of a system that speaks WebSocket, and the client's own layer is left out. */
#ifndef MOORING_WEBSOCKET
#define MOORING_WEBSOCKET 1
#endif

/* With 1 beside it, mooring_config.messages says which of both it is. */
#ifndef MOORING_MESSAGES
#define MOORING_MESSAGES (!MOORING_WEBSOCKET)
#endif

/* With 0, there is no mirror of the ring in flash: keep and forget are not called, and
 * there is no mooring_restore(). */
#ifndef MOORING_FLASH
#define MOORING_FLASH 1
#endif

/* With 0, there are single rows only: regular and packed ones are refused. */
#ifndef MOORING_BLOCKS
#define MOORING_BLOCKS 1
#endif

/* The name of a function of your platform that gives the SHA-1 of bytes, and 0 if it
 * could, as mbedtls_sha1 does. The client then does without its own. */
#ifdef MOORING_SHA1
int MOORING_SHA1(const uint8_t *bytes, size_t length, uint8_t digest[20]);
#endif

/* DATA frames that may be on their way, whatever larger window the server grants. */
#define MOORING_WINDOW 8

/* Bytes in the ring beside the values of each row, and beside those of each
 * regular or packed block. */
#define MOORING_ROW_HEAD 9
#define MOORING_BLOCK_HEAD 15

/* The smallest memory for frames: the handshake's request must fit too, so the
 * length of host, path and token comes on top (mooring_init checks it). */
#define MOORING_FRAME_MIN 256

/* A time that means now: the server's clock, or if it is not known yet, this
 * moment, once it is. */
#define MOORING_NOW ((uint64_t)0)

enum mooring_kind { MOORING_NUMBER, MOORING_BOOLEAN, MOORING_STRING };

/* One channel. Integers are sent as they are and stored times 10^exp10
 * (PROTOCOL 4.2), so 21.5 is 215 with exp10 -1. unit may be NULL. */
struct mooring_channel {
	const char *name, *unit;
	uint8_t kind;
	int8_t exp10;
};

/* One layout: what a row holds. Its number is its place in the table. */
struct mooring_layout {
	const char *name;
	const struct mooring_channel *channels;
	uint8_t count;
};

/* One value of a row. */
struct mooring_value {
	uint8_t type; /* 0 none; else MessagePack's: what the functions below say */
	union {
		int32_t integer;
		float number;
		const char *text; /* at most 255 bytes of UTF-8, ended by 0 */
	} as;
};

static inline struct mooring_value mooring_none(void)
{
	struct mooring_value v = {0, {0}};
	return v;
}
static inline struct mooring_value mooring_int(int32_t integer)
{
	struct mooring_value v = {0xd2, {0}};
	v.as.integer = integer;
	return v;
}
static inline struct mooring_value mooring_float(float number)
{
	struct mooring_value v = {0xca, {0}};
	v.as.number = number;
	return v;
}
static inline struct mooring_value mooring_bool(bool is)
{
	struct mooring_value v = {0xc2, {0}};
	if (is)
		v.type = 0xc3;
	return v;
}
static inline struct mooring_value mooring_text(const char *text)
{
	struct mooring_value v = {0xd9, {0}};
	v.as.text = text;
	return text != NULL ? v : mooring_none();
}

/* What a COMMAND asks for (PROTOCOL 6.3). name has no 0 at its end; args is one
 * MessagePack value, or none. Both are valid during the call only. */
struct mooring_command {
	uint64_t id;
	const uint8_t *name, *args;
	uint16_t name_length, args_length;
	uint8_t flags;
};

/* Answers to a command (PROTOCOL 4.4). */
enum mooring_status {
	MOORING_DONE, MOORING_ACCEPTED, MOORING_FAILED, MOORING_UNKNOWN,
	MOORING_BAD_ARGS, MOORING_EXPIRED, MOORING_BUSY, MOORING_REFUSED
};

/* Everything that does not change while the device runs. It and what it points
 * to must live as long as the client, in flash if you like. */
struct mooring_config {
	const char *host;  /* for the Host header: "example.org:8080" */
	const char *path;  /* "/v1/stream" */
	const char *token; /* the device's; never logged */
	const char *model, *firmware; /* at most 64 bytes; may be NULL */
	const struct mooring_layout *layouts;
	uint8_t layout_count; /* at most 16 */
	bool drop_oldest;     /* when the ring is full; else the newest row is refused */
#if MOORING_WEBSOCKET && MOORING_MESSAGES
	bool messages; /* the transport carries whole messages and speaks WebSocket itself */
#endif
	uint16_t heartbeat;   /* wished for, seconds; 0: the server's */
	uint32_t linger_ms;   /* a frame that could hold more rows waits so long after the last one */

	/* The transport. None of these may block for long.
	 * open: 1 open, 0 ask again, negative: failed, -1 or minus the HTTP status.
	 * send: bytes taken, 0 not now, negative: broken. Of a message, all or 0.
	 * recv: bytes, 0 nothing there, negative: closed, -1 or minus the close code.
	 *       Where they are whole, one binary message that fits; at any other the
	 *       transport closes with 1009, or 4204 for a text, and gives -4001.
	 * close: code is for transports that speak WebSocket themselves; 0: just end. */
	void *context; /* first argument of everything below */
	int (*open)(void *context);
	int (*send)(void *context, const uint8_t *bytes, size_t length);
	int (*recv)(void *context, uint8_t *bytes, size_t length);
	void (*close)(void *context, uint16_t code);

	/* 32 random bits, different on every device and at every boot. Waits before
	 * reconnects, the boot's number and the WebSocket masks come from it. */
	uint32_t (*random)(void *context);

	/* All below may be NULL. */

	/* A command; what is returned is the answer, with MOORING_ACCEPTED more
	 * follows by mooring_result(). NULL: every command is MOORING_UNKNOWN. */
	uint8_t (*command)(void *context, const struct mooring_command *command);
	/* The server refused n rows from seq, or one channel of them (-1: whole
	 * rows), for good or because they were given up (PROTOCOL 7). */
	void (*refused)(void *context, uint64_t seq, uint32_t n, int channel, uint8_t code);
	/* A mirror of the ring, in flash: keep is called for each row or block when
	 * its time is known, forget when nothing before next is needed any more. At
	 * the next boot mooring_restore() takes them back in the same order. */
	void (*keep)(void *context, uint64_t seq, const uint8_t *record, uint16_t length);
	void (*forget)(void *context, uint64_t next);
};

/* The client. Read what is said to be "to look at"; leave the rest alone.
 *
 * The order is for a Cortex-M0+: its short loads reach 32 bytes for a byte, 64 for
 * a half and 128 for a word, and each access beyond costs 2 to 4 bytes of code. So
 * small fields come first; the order of the words is the best of some hundreds that
 * were compiled. */
struct mooring {
	uint8_t state; /* 0 idle, 1 opening, 2 upgrading, 3 connected, 4 stopped */
	uint8_t failures, faults, hold_rounds;
	bool clock, own_clock, welcomed, flush, result_waits;
	uint8_t result_status;

	/* The connection; all 0 when one begins. */
	struct {
		bool hello, pong, pinged, progress, accepted;
		uint8_t middle, head[4], flights;
		uint16_t message, got, declared, rejected; /* the last two: a bit for each layout */
		uint8_t *sent, *pending; /* of the message in the frame memory */
		uint32_t heard;
	} link;

	uint8_t *end, *head, *at; /* at and end: what is being written */
	uint32_t now; /* tick of the last poll */
	uint8_t *send, *frame, *ring;
	uint32_t sent; /* rows from the oldest to the send cursor */
	const struct mooring_config *config;
	uint8_t *ring_end, *tail;
	uint32_t waiting;  /* rows from the oldest to the newest */
	uint32_t wait;	   /* ms to the next poll */
	uint64_t head_seq; /* number of the oldest row */

	/* What the server's frames said, which mooring.c reads into words by their number. */
	union {
		uint32_t word[13];
		struct {
			uint32_t heartbeat, max_frame, spread; /* s, bytes, s; stay over connections */
			uint32_t pause;			       /* of THROTTLE, ms */
			uint32_t first, slot_min, second, third; /* all but slot_min: what else the frame has that is read now */
			uint32_t goaway, window;
			uint32_t pause_for; /* of THROTTLE, s */
			uint32_t slot, grace;
		} is;
	} told;

	uint16_t ended;	   /* to look at: why the last connection ended: HTTP status, close code, 0 network */
	uint32_t connects; /* to look at: connections that were opened */
	uint32_t data_at;  /* when the last DATA went */
	uint32_t pause;	   /* how long there is to be no connection, since opened */
	uint32_t noticed;  /* when THROTTLE or GOAWAY came */
	uint32_t hold;	   /* lower half of the number of the row held back last */
	uint32_t flight[MOORING_WINDOW]; /* one behind the last row of each frame, lower half */
	uint32_t boot;
	uint64_t time;	   /* at the last poll: the server's, or ms since the beginning and BY_TICK */
	uint32_t lost;	   /* to look at: rows given up, of all causes */
	uint32_t opened;   /* since when the connection is, or is none */
	uint32_t rejected; /* to look at: values and rows refused by the server */
	uint64_t result_id;
	uint32_t gap; /* to look at: rows refused since the last one taken; the next row tells */

	uint8_t rx[MOORING_RX + 2]; /* a Close's code is read behind a fragment that fills it, and not used */
};

/* Makes a client, idle and due to connect. memory is frame bytes for one
 * message to the server, then the ring. tick is now, as for mooring_poll. False: a layout or the request does not
 * fit into frame bytes, or there is no room for a ring. */
bool mooring_init(struct mooring *m, const struct mooring_config *config,
		  void *memory, uint32_t size, uint16_t frame, uint32_t tick);

/* Does what is to be done. tick is a clock in ms that may start anywhere and
 * wrap; call at least once in 49 days. Returns ms until it wants to be called
 * again; call it earlier when the transport has something to read. */
uint32_t mooring_poll(struct mooring *m, uint32_t tick);

/* Adds n rows, step_us apart, from time on, as packed numbers (PROTOCOL 5.10), which
 * takes the least: type 2 int16_t, 3 int32_t, 4 float. Time is in ms since 1970, or
 * MOORING_NOW, which is that of the first row. They go, are kept and are dropped
 * together. False: refused and counted, because the ring is full or they can't fit. */
bool mooring_append_packed(struct mooring *m, uint8_t layout, uint64_t time, uint32_t step_us,
			   uint16_t n, uint8_t type, const void *numbers);

/* The same as n times layout->count values of any kind (PROTOCOL 5.6). */
static inline bool mooring_append_regular(struct mooring *m, uint8_t layout, uint64_t time, uint32_t step_us,
					  uint16_t n, const struct mooring_value *values)
{
	return mooring_append_packed(m, layout, time, step_us, n, 1, values);
}

/* One row of layout->count values. */
static inline bool mooring_append(struct mooring *m, uint8_t layout, uint64_t time, const struct mooring_value *values)
{
	return mooring_append_packed(m, layout, time, 0, 1, 0, values);
}

/* Sends what is there without lingering. */
static inline void mooring_flush(struct mooring *m) { m->flush = true; }

/* Rows that are not settled. 0: everything is in the database, or was given up
 * or refused. */
static inline uint64_t mooring_waiting(const struct mooring *m) { return m->waiting; }

/* The time, ms since 1970; 0: not known yet. */
static inline uint64_t mooring_time(const struct mooring *m)
{
	return m->clock ? m->time : 0;
}

/* Sets the time, for devices with a clock of their own. The server's is not
 * taken any more. */
void mooring_set_time(struct mooring *m, uint64_t time);

/* Answers a command that was MOORING_ACCEPTED. False: try again after a poll. */
static inline bool mooring_result(struct mooring *m, uint64_t id, uint8_t status)
{
	if (m->result_waits)
		return false;
	m->result_waits = true;
	m->result_id = id;
	m->result_status = status;
	return true;
}

/* For the open of a transport that speaks WebSocket itself, before it fails: the
 * server's Retry-After, in seconds, of which no more than a day is believed. */
static inline void mooring_retry_after(struct mooring *m, uint32_t seconds)
{
	m->told.is.slot_min = (seconds < 86400 ? seconds : 86400) * 1000;
	m->told.is.slot = m->told.is.spread * 1000; /* PROTOCOL 9.2 */
}

/* Takes leave of the server and stays away, until mooring_start(), which connects at
 * once, also if it is the time to wait. Rows stay. */
void mooring_stop(struct mooring *m);
static inline void mooring_start(struct mooring *m)
{
	m->state = (uint8_t)(m->state % 4); /* 4 becomes 0; a connection stays */
	m->pause = 0;
}

#if MOORING_FLASH
/* Between init and the first row: takes back what keep was given, oldest first;
 * then, with record NULL, the next sequence number if it is known better. */
bool mooring_restore(struct mooring *m, uint64_t seq, const uint8_t *record, uint16_t length);
#endif

#ifdef __cplusplus
}
#endif

#endif
