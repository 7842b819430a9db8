/* mooring.c: see mooring.h. "PROTOCOL n" is a clause of docs/PROTOCOL.md.
 *
 * In order: numbers as bytes; the ring; MessagePack out; MessagePack in; frames
 * of the server; WebSocket; frames of the device; the connection; the interface.
 *
 * Apache License 2.0. */
#include "mooring.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed numbers are sent as they lie in memory, which must be little-endian"
#endif

#if MOORING_WEBSOCKET && MOORING_MESSAGES
#define MESSAGES(m) ((m)->config->messages)
#else
#define MESSAGES(m) (MOORING_WEBSOCKET == 0)
#endif

/* OUT_OF_LINE keeps a function from being copied into its caller, where at -Os that
 * was measured to take more code: it runs out of the registers of a Cortex-M0+. */
#ifdef __GNUC__
#define OUT_OF_LINE __attribute__((noinline))
#else
#define OUT_OF_LINE
#endif

enum { IDLE, OPENING, UPGRADING, CONNECTED, STOPPED };

enum { CLASS_RETRY, CLASS_LATER, CLASS_FAULT, CLASS_TERMINAL };

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, LAST = 0x80 }; /* RFC 6455 5.2; LAST: no fragment follows */

#define WS_HEAD 8		 /* of a masked message below 64 KiB */
#define CONNECT_MS 30000	 /* for opening and the handshake */
#define STEADY_MS 60000		 /* a connection that lived so long is progress, PROTOCOL 9.2 */
#define FARTHEST ((uint64_t)1 << 53)
#define DAY_MS 86400000u

/* --- Numbers as bytes, most significant first ------------------------------ */

/* Both are out of line: copied into the many places that call them they took 80 bytes.
 * The 64-bit number is the third argument, and not the second: so it comes to lie
 * in the registers 2 and 3, and nothing on the stack. */
OUT_OF_LINE static void put_be(uint8_t *at, uint32_t bytes, uint64_t number)
{
	while (bytes > 0) {
		at[--bytes] = (uint8_t)number;
		number >>= 8;
	}
}

OUT_OF_LINE static uint64_t get_be(const uint8_t *at, uint32_t bytes)
{
	uint64_t number = 0;
	while (bytes-- > 0)
		number = number << 8 | *at++;
	return number;
}

/* --- The ring ---------------------------------------------------------------
 *
 * Records lie one behind the other, from the head, which is the oldest, to the tail.
 * When there is no room behind the tail, they all move to the start. Each is
 *
 *   length of the body 2 (the low half first), layout and form 1, time 6, body
 *
 * Forms: ROW: the body is the values. REGULAR: n 2, step 4, the values. 2 to 4:
 * the same, packed as numbers of that type. GAP: the time is a count of rows that
 * were given up here. The top bit of a time says that
 * it counts from mooring_init, because the clock was not known. */

enum { ROW = 0, REGULAR = 1, GAP = 5 };

#define HEAD MOORING_ROW_HEAD
#define BY_TICK ((uint64_t)1 << 47)

/* Without blocks, what is not a gap is a row. */
static uint8_t form_of(const uint8_t *record) { return record[2] >> 4; }
static bool is_block(uint32_t form) { return MOORING_BLOCKS && form != ROW; }
static uint32_t body_of(const uint8_t *record) { return (uint32_t)(record[1] << 8 | record[0]); }
static uint64_t time_of(const uint8_t *record) { return get_be(record + 3, 6); }

/* rows_of is how many sequence numbers a record stands for. */
OUT_OF_LINE static uint32_t rows_of(const uint8_t *record)
{
	if (form_of(record) == GAP)
		return (uint32_t)get_be(record + 5, 4);
	return is_block(form_of(record)) ? (uint32_t)get_be(record + HEAD, 2) : 1;
}

/* pass moves a cursor behind the record there, and gives its rows. */
static uint32_t pass(uint8_t **cursor)
{
	uint8_t *here = *cursor;
	*cursor = here + HEAD + body_of(here);
	return rows_of(here);
}

/* sent_one moves the send cursor behind the record there. */
OUT_OF_LINE static void sent_one(struct mooring *m) { m->sent += pass(&m->send); }

/* forget frees every record that ends within the oldest so many rows, and counts
 * as lost what was not settled. Below 0, it frees none. It gives how many rows went. */
static uint32_t forget(struct mooring *m, uint32_t rows, bool settled)
{
	uint32_t gone = 0, n;
	while (gone < m->waiting && (int32_t)(rows - gone - (n = rows_of(m->head))) >= 0) {
		if (!settled && form_of(m->head) != GAP)
			m->lost += n;
		gone += n;
		pass(&m->head);
	}
	m->waiting -= gone;
	m->head_seq += gone;
	m->sent -= m->sent > gone ? gone : m->sent;
	if (m->waiting == 0)
		m->head = m->tail = m->ring;
	if (m->sent == 0)
		m->send = m->head;
	if (MOORING_FLASH && gone > 0 && m->config->forget != NULL)
		m->config->forget(m->config->context, m->head_seq);
	return gone;
}

static void drop_oldest(struct mooring *m) { forget(m, rows_of(m->head), false); }

/* keep tells of the record at the tail, which is to be one of the ring. */
static void keep(struct mooring *m)
{
	const uint8_t *record = m->tail;
	if (MOORING_FLASH && m->config->keep != NULL && (record[3] & 0x80) == 0 && form_of(record) != GAP)
		m->config->keep(m->config->context, m->head_seq + m->waiting, record, (uint16_t)(HEAD + body_of(record)));
}

/* added makes the record at the tail one of the ring. */
static void added(struct mooring *m)
{
	keep(m);
	m->waiting += pass(&m->tail);
}

/* reserve finds room at the tail for a record of so many bytes; NULL, and its
 * rows counted: there is none. A gap before it becomes a record of its own. */
static uint8_t *reserve(struct mooring *m, uint32_t length, uint32_t rows)
{
	uint32_t gap = m->gap ? HEAD : 0;
	length += gap;
	while ((uint32_t)(m->ring_end - m->tail) < length) {
		uint32_t before = (uint32_t)(m->head - m->ring);
		if ((uint32_t)(m->ring_end - m->tail) + before >= length) {
			/* memmove would be larger, and nothing else needs it. */
			for (uint8_t *to = m->ring; to + before < m->tail; to++)
				*to = to[before];
			m->head -= before;
			m->tail -= before;
			m->send -= before;
			break;
		}
		/* What the whole ring could not hold costs no row that is there. */
		if (!m->config->drop_oldest || length > (uint32_t)(m->ring_end - m->ring)) {
			m->gap += rows;
			m->lost += rows;
			return NULL;
		}
		/* A sixteenth of the bytes goes at once, so that not every row moves all the
		 * others. If nothing is left, the head is at the start. */
		do
			drop_oldest(m);
		while ((uint32_t)(m->head - m->ring) - 1 < (uint32_t)(m->ring_end - m->ring) / 16);
	}
	if (gap > 0) {
		uint8_t *to = m->tail;
		put_be(to, HEAD, (uint64_t)GAP << 52 | m->gap); /* no body; the form; the count as time */
		m->gap = 0;
		added(m);
	}
	return m->tail;
}

/* --- MessagePack out --------------------------------------------------------- */

/* The writer is m->at and m->end: one thing is written at a time. When the end was
 * passed, at is NULL and stays it. Each put gives m back, which so is in the
 * register where the next one wants it. */
static struct mooring *put(struct mooring *m, const void *bytes, uint32_t length)
{
	uint8_t *to = m->at;
	m->at = NULL;
	if (to != NULL && (uint32_t)(m->end - to) >= length) {
		m->at = to + length;
		memcpy(to, bytes, length);
	}
	return m;
}

/* From 0xc0: how many bytes follow a MessagePack head, times 4, and, in the low bits,
 * how many bytes tell how many more. 3: not allowed. */
static const uint8_t sizes[32] = {
	0, 3, 0, 0, 1, 2, 3, 1 << 2 | 1, 1 << 2 | 2, 3, 4 << 2, 8 << 2, 1 << 2, 2 << 2, 4 << 2, 8 << 2,
	1 << 2, 2 << 2, 4 << 2, 8 << 2, 2 << 2, 3 << 2, 5 << 2, 9 << 2, 17 << 2, 1, 2, 3, 2, 3, 2, 3,
};

/* put_wide puts a head, and behind it the number that belongs to it: as wide as the
 * head says. */
static struct mooring *put_wide(struct mooring *m, uint32_t head, uint64_t number)
{
	uint8_t b[9];
	uint32_t bytes = 0;
	b[0] = (uint8_t)head;
	if (head - 0xc0 < sizeof sizes) {
		uint32_t size = sizes[head - 0xc0];
		bytes = size & 3;
		if (bytes == 0)
			bytes = size >> 2;
	}
	put_be(b + 1, bytes, number);
	return put(m, b, bytes + 1);
}

/* put_fixed is for 32 bits, so that its arguments fit into registers, and put_byte for
 * what is one byte. */
OUT_OF_LINE static struct mooring *put_fixed(struct mooring *m, uint32_t head, uint32_t number)
{
	return put_wide(m, head, number);
}

OUT_OF_LINE static struct mooring *put_byte(struct mooring *m, uint32_t byte)
{
	return put_fixed(m, byte, 0);
}

/* put_int takes one byte, or three, or five. */
static struct mooring *put_int(struct mooring *m, int32_t number)
{
	uint32_t head = 0xd2;
	if (number == (int16_t)number)
		head = 0xd1;
	if (number >= -32 && number < 128)
		head = (uint32_t)number;
	return put_fixed(m, head, (uint32_t)number);
}

static struct mooring *put_string(struct mooring *m, const char *text)
{
	if (text == NULL)
		return put_byte(m, 0xc0);
	uint32_t length = (uint32_t)strlen(text);
	if (length > 255)
		length = 255;
	return put(put_fixed(m, 0xd9, length), text, length);
}

/* put_value takes a value's type for its MessagePack head, where it is; behind that of
 * a float come its bits. */
static void put_value(struct mooring *m, const struct mooring_value *value)
{
	uint32_t type = value->type;
	if (type == 0xd2)
		put_int(m, value->as.integer);
	else if (type == 0xd9)
		put_string(m, value->as.text);
	else
		put_fixed(m, type != 0 ? type : 0xc0, (uint32_t)value->as.integer);
}

/* --- MessagePack in ---------------------------------------------------------- */

/* A reader of one frame. left counts the elements that the array still has. Once
 * something was wrong, at is NULL. */
struct reader {
	const uint8_t *at, *end;
	uint32_t left;
	uint64_t big; /* the field that may be large */
};

/* skip passes over so many values of any kind (PROTOCOL 3.3 to 3.5), without going
 * deeper than one call; NULL: they are not all there, or not allowed. */
static const uint8_t *skip(const uint8_t *here, const uint8_t *end, uint32_t values)
{
	while (values > 0) {
		if (here >= end)
			return NULL;
		uint32_t b = *here++, length = 0;
		values--;
		if (b >= 0x80 && b < 0xe0) {
			if (b < 0xa0) {
				length = b & 15;
			} else if (b < 0xc0) {
				length = b & 31;
			} else {
				uint32_t size = sizes[b - 0xc0], more = size & 3;
				if (more == 3 || (uint32_t)(end - here) < more)
					return NULL;
				length = (uint32_t)get_be(here, more) + (size >> 2);
				here += more;
			}
			if (b >= 0xa0 && b < 0xdc) { /* no map, no array */
				if ((uint32_t)(end - here) < length)
					return NULL;
				here += length;
				length = 0;
			}
			values += length;
			if (b < 0x90 || b == 0xde)
				values += length;
		}
	}
	return here;
}

/* next passes over an element, and gives where it lies; NULL: there is none. */
static const uint8_t *next(struct reader *r)
{
	const uint8_t *from = r->at;
	if (r->left == 0 || from == NULL)
		return NULL;
	r->left--;
	r->at = skip(from, r->end, 1);
	return r->at == NULL ? NULL : from;
}

/* elements begins to read an array. Its head must lie in readable memory. */
static void elements(struct reader *r)
{
	const uint8_t *from = r->at;
	uint32_t count = *from++ ^ 0x90u; /* 0 to 15, or in the next two bytes */
	if (count == (0xdc ^ 0x90)) {
		count = (uint32_t)(from[0] << 8 | from[1]);
		from += 2;
	} else if (count > 15) {
		from = NULL;
	}
	r->left = count;
	r->at = from;
}

/* Where in told the fields of frames go. */
enum {
	HEARTBEAT = 0x00, MAX_FRAME = 0x10, SPREAD = 0x20, PAUSE = 0x30, FIRST = 0x40, SLOT_MIN = 0x50, SECOND = 0x60,
	THIRD = 0x70, GOAWAY = 0x80, WINDOW = 0x90, PAUSE_FOR = 0xa0, SLOT = 0xb0, GRACE = 0xc0
};

/* And what they may be: integers of up to 2^53, which come to lie in r->big too if they
 * are BIG. No more than a day of ms is believed, or, if SMALL, a 2^8th of that, 337,500,
 * so that 2,000 times as much fits into 32 bits. If absent, they are 0, or stay what they
 * were, or are missed. */
enum { SMALL = 8, BIG = 4, STAYS = 2, REQUIRED = 1 };

/* fields reads elements one by one. What they are must not be 0, which is the end. */
static void fields(struct mooring *m, struct reader *r, const uint8_t *kinds)
{
	for (uint32_t kind; (kind = *kinds) != 0; kinds++) {
		uint32_t *to = &m->told.word[kind >> 4], most = DAY_MS >> (kind & SMALL);
		uint32_t first, fault = kind & REQUIRED;
		const uint8_t *from = next(r);
		if ((kind & STAYS) == 0)
			*to = 0;
		if (from != NULL && (first = *from++) != 0xc0) {
			uint64_t is = first;
			fault = first & 0x80;
			if (first >= 0xcc && first < 0xd4) {
				fault = first >= 0xd0 ? *from & 0x80 : 0; /* below 0 */
				is = get_be(from, (uint32_t)(r->at - from));
			}
			if (is >> 32 > FARTHEST >> 32)
				fault = 1;
			if (fault == 0) {
				*to = is > most ? most : (uint32_t)is;
				if (kind & BIG)
					r->big = is;
			}
		}
		if (fault != 0)
			r->at = NULL;
	}
}

/* --- Time -------------------------------------------------------------------- */

static uint32_t since(const struct mooring *m, uint32_t when) { return m->now - when; }


/* over says whether ms have passed since then. If not, the next poll is to be no
 * later than that. */
OUT_OF_LINE static bool over(struct mooring *m, uint32_t then, uint32_t ms)
{
	uint32_t passed = since(m, then);
	if (passed >= ms)
		return true;
	ms -= passed;
	if (m->wait > ms)
		m->wait = ms;
	return false;
}

/* up_to is uniform below limit. */
static uint32_t up_to(const struct mooring *m, uint32_t limit)
{
	uint32_t r = m->config->random(m->config->context) >> 16;
	return (limit >> 16) * r + ((limit & 0xffff) * r >> 16);
}

/* learn sets the clock. Rows that had none get their times now, before they are
 * sent for the first time, and keep them (PROTOCOL 5.5.3). */
static void learn(struct mooring *m, uint64_t time)
{
	uint64_t by = time - m->time;
	uint32_t rows = m->waiting;
	m->time = time;
	if (m->clock)
		return;
	m->clock = true;
	/* As if they were added again. */
	m->tail = m->head;
	for (m->waiting = 0; m->waiting < rows; m->waiting += pass(&m->tail)) {
		uint8_t *here = m->tail;
		if ((here[3] & 0x80) != 0) {
			put_be(here + 3, 6, time_of(here) + by);
			keep(m);
		}
	}
}

/* --- The end of a connection --------------------------------------------------- */

/* class_of is the table of PROTOCOL 9.1: below 600 HTTP, 0 the network. Each
 * entry holds from its code on, up to that of the entry before it. */
#define FROM(code, class) (uint16_t)((code) << 2 | (class))
static uint32_t class_of(uint32_t code)
{
	static const uint16_t from[] = {
		FROM(4600, CLASS_LATER), FROM(4500, CLASS_TERMINAL), FROM(4300, CLASS_LATER),
		FROM(4200, CLASS_FAULT), FROM(4100, CLASS_LATER), FROM(1014, CLASS_RETRY),
		FROM(1013, CLASS_LATER), FROM(1010, CLASS_RETRY), FROM(1009, CLASS_FAULT),
		FROM(1008, CLASS_LATER), FROM(1007, CLASS_FAULT), FROM(1004, CLASS_RETRY),
		FROM(1002, CLASS_FAULT), FROM(504, CLASS_RETRY), FROM(503, CLASS_LATER),
		FROM(500, CLASS_RETRY), FROM(430, CLASS_FAULT), FROM(429, CLASS_LATER),
		FROM(409, CLASS_FAULT), FROM(408, CLASS_RETRY), FROM(404, CLASS_FAULT),
		FROM(403, CLASS_TERMINAL), FROM(402, CLASS_FAULT), FROM(401, CLASS_TERMINAL),
		FROM(400, CLASS_FAULT), FROM(100, CLASS_LATER), FROM(0, CLASS_RETRY),
	};
	const uint16_t *entry = from;
	while (code < *entry >> 2)
		entry++;
	return *entry & 3;
}

OUT_OF_LINE static uint32_t doubled(uint32_t base, uint32_t times, uint32_t limit)
{
	for (; base < limit; base *= 2)
		if (times-- == 0)
			return base;
	return limit;
}

/* wait_after is PROTOCOL 9.2 and 9.3. */
static uint32_t wait_after(struct mooring *m, uint32_t class)
{
	static const uint8_t tens[] = {0, 6, 1, 45}; /* of seconds: R, L, F, and half of T */
	uint32_t least, wait, times = 0;
	if (class == CLASS_TERMINAL)
		times = m->failures + (uint32_t)(m->failures == 0);
	least = doubled(tens[class], times, 2160) * 10;
	wait = least * 1000 + up_to(m, doubled(m->told.is.spread, m->failures, 600) * 1000);
	if (m->told.is.slot > 0) {
		uint32_t slot = m->told.is.slot_min + up_to(m, m->told.is.slot);
		if ((class == CLASS_RETRY && m->link.progress) || slot > wait)
			wait = slot;
	}
	return wait;
}

/* ended closes the transport, judges why it ended (PROTOCOL 9), and sets the
 * time of the next attempt. */
static void ended(struct mooring *m, uint32_t code, uint32_t close_code)
{
	m->config->close(m->config->context, (uint16_t)close_code);
	if (m->told.is.goaway != 0)
		code = m->told.is.goaway;
	uint32_t class = class_of(code);
	m->ended = (uint16_t)code;
	if (m->state == CONNECTED && since(m, m->opened) >= STEADY_MS)
		m->link.progress = true;
	if (m->failures < 20)
		m->failures++;
	if (m->link.progress)
		m->failures = m->faults = 0;
	m->send = m->head; /* PROTOCOL 8.3.2 */
	m->sent = 0;
	if (m->link.flights > 0) {
		if (class != CLASS_FAULT)
			m->faults = 0; /* not in a row */
		else if (++m->faults >= 2) { /* PROTOCOL 9.4 */
			m->faults = 0;
			forget(m, m->flight[0] - (uint32_t)m->head_seq, false); /* below 0: it made room */
		}
	}
	m->wait = m->pause = wait_after(m, class);
	m->opened = m->now;
	m->state = IDLE;
}

/* broke ends with the negative result of a callback. */
static void broke(struct mooring *m, int result)
{
	ended(m, result == -1 ? 0 : (uint32_t)-result, 0);
}

/* --- WebSocket out ------------------------------------------------------------- */

/* message sends as one what was written behind WS_HEAD in the frame memory. */
static void message(struct mooring *m, uint32_t opcode)
{
	uint8_t *from = m->frame + WS_HEAD;
	if (!MESSAGES(m)) {
		uint32_t length = (uint32_t)(m->at - from);
		uint8_t *mask = from - 4;
		put_be(mask, 4, m->config->random(m->config->context));
		for (uint32_t i = 0; i < length; i++)
			from[i] ^= mask[i & 3];
		if (length > 125) {
			put_be(mask - 2, 2, length);
			length = 126;
			from = mask - 4;
		} else {
			from = mask - 2;
		}
		from[0] = (uint8_t)opcode;
		from[1] = (uint8_t)(0x80 | length);
	}
	m->link.sent = from;
	m->link.pending = m->at;
}

static bool sending(const struct mooring *m) { return m->link.sent < m->link.pending; }

/* flush gives the transport what waits; false: the connection ended. */
static bool flush(struct mooring *m)
{
	while (sending(m)) {
		int taken = m->config->send(m->config->context, m->link.sent, (size_t)(m->link.pending - m->link.sent));
		if (taken < 0) {
			broke(m, taken);
			return false;
		}
		m->link.sent += taken;
		if (taken == 0)
			break;
	}
	return true;
}

/* begin is where every message does: in the frame memory, behind room for a head. It
 * ends where that does, or the server's max_frame. */
OUT_OF_LINE static struct mooring *begin(struct mooring *m)
{
	uint8_t *at = m->frame + WS_HEAD;
	uint32_t most = (uint32_t)(m->ring - at);
	if (most > m->told.is.max_frame)
		most = m->told.is.max_frame;
	m->at = at;
	m->end = at + most;
	return m;
}

/* leave says goodbye with code, if nothing is half sent, and ends because of why. */
static void leave(struct mooring *m, uint32_t code, uint32_t why)
{
	if (m->state == CONNECTED && !MESSAGES(m) && !sending(m)) {
		put_be(m->frame + WS_HEAD, 2, code);
		m->at = m->frame + WS_HEAD + 2;
		message(m, LAST | CLOSE);
		if (!flush(m))
			return;
	}
	ended(m, why, code);
}

/* part leaves a server that did nothing wrong, because of why. */
OUT_OF_LINE static void part(struct mooring *m, uint32_t why) { leave(m, 1000, why); }

/* --- Frames of the server --------------------------------------------------------- */

#define NONE UINT32_MAX

/* place is how many of the rows that were sent, from the oldest on, have a number
 * below r->big; NONE: the oldest has not. */
OUT_OF_LINE static uint32_t place(const struct mooring *m, const struct reader *r)
{
	uint64_t rows = r->big - m->head_seq;
	if ((int64_t)rows < 0)
		return NONE;
	return rows < m->sent ? (uint32_t)rows : m->sent;
}

/* acked is PROTOCOL 6.2. Rows refused with a code from 64 on may be taken later,
 * but on another connection (PROTOCOL 7.2): they are kept, and so is what is
 * behind them, and we come back; three times, then they count as refused. */
static void acked(struct mooring *m, struct reader *r)
{
	static const uint8_t kinds[] = {BIG | REQUIRED | FIRST, REQUIRED | FIRST, STAYS | SECOND, SMALL | REQUIRED | THIRD, 0};
	uint32_t settled = place(m, r); /* no ACK covers what was not sent */
	uint32_t next = (uint32_t)m->head_seq + settled;
	if (settled == NONE) { /* it made room: what was dropped may still be on its way */
		next = (uint32_t)r->big;
		settled = 0;
	}
	uint32_t hold = settled, why = 0, flights = 0;
	uint32_t *flight = m->flight;
	for (uint32_t left = m->link.flights; left > 0; left--, flight++)
		if ((int32_t)(*flight - next) > 0)
			m->flight[flights++] = *flight;
	m->link.flights = (uint8_t)flights;
	m->rejected += m->told.is.first;
	if (r->left > 0 && *r->at != 0xc0)
		for (elements(r); r->left > 0;) {
			m->told.is.second = NONE;
			fields(m, r, kinds); /* seq, n, channel, code */
			if (r->at == NULL)
				return;
			uint32_t from = place(m, r), n = m->told.is.first, channel = m->told.is.second, code = m->told.is.third;
			if (code >= 64 && channel == NONE && m->link.rejected == 0 && from < hold) {
				hold = from;
				why = 1000;
				if (code == 65)
					why = 4103;
			} else if (m->config->refused != NULL) {
				m->config->refused(m->config->context, r->big, n, (int)channel, (uint8_t)code);
			}
		}
	if (why != 0) {
		uint32_t held = (uint32_t)m->head_seq + hold;
		if (m->hold != held)
			m->hold_rounds = 0;
		m->hold = held;
		if (++m->hold_rounds > 3) /* again and again: as if for good */
			why = 0;
		else
			settled = hold;
	}
	if (forget(m, settled, true) > 0)
		m->link.progress = true;
	if (why != 0)
		part(m, why);
}

/* commanded answers a COMMAND. */
static void commanded(struct mooring *m, struct reader *r)
{
	static const uint8_t kinds[] = {SMALL | FIRST, SMALL | SECOND, 0};
	struct mooring_command command;
	uint32_t status = MOORING_UNKNOWN;
	const uint8_t *from = next(r);
	if (from == NULL || (*from >> 5 != 5 && (*from - 0xd9u) > 1)) {
		r->at = NULL;
		return;
	}
	command.name = from + (*from < 0xd9 ? 1 : *from - 0xd7); /* behind the string's head */
	command.name_length = (uint16_t)(r->at - command.name);
	command.args = r->at;
	next(r);
	command.args_length = (uint16_t)(r->at - command.args);
	fields(m, r, kinds); /* ttl, flags; a longer ttl than 93 h is taken for that */
	if (r->at == NULL)
		return;
	command.id = m->result_id = r->big;
	command.flags = (uint8_t)m->told.is.second;
	m->result_waits = true;
	/* Nothing is read while a command waits to begin, so this is since it came. */
	if (m->told.is.first > 0 && since(m, m->link.heard) >= m->told.is.first * 1000)
		status = MOORING_EXPIRED;
	else if (m->config->command != NULL)
		status = m->config->command(m->config->context, &command);
	m->result_status = (uint8_t)status;
}

/* frame handles the whole message of that length in m->rx. False: later, since a
 * command waits until the answer to the one before has gone. */
static bool frame(struct mooring *m, uint32_t length)
{
	/* What the fields are, behind the type and the kind (PROTOCOL 6). */
	static const uint8_t kinds[][7] = {
		{BIG | REQUIRED | FIRST, FIRST, SMALL | STAYS | HEARTBEAT, SMALL | STAYS | MAX_FRAME,
		 SMALL | STAYS | WINDOW, SMALL | STAYS | SPREAD},					  /* WELCOME */
		{BIG | REQUIRED | FIRST, SMALL | REQUIRED | WINDOW, FIRST},			  /* ACK */
		{BIG | REQUIRED | FIRST},								  /* COMMAND */
		{SMALL | REQUIRED | FIRST},								  /* NOTICE */
		{0},											  /* PONG, and other kinds of NOTICE */
		{BIG | REQUIRED | FIRST},								  /* TIME */
		{PAUSE, SMALL | PAUSE_FOR},								  /* THROTTLE */
		{SMALL | REQUIRED | GOAWAY, GRACE, SLOT_MIN, SLOT},			  /* GOAWAY */
		{SMALL | STAYS | HEARTBEAT, SMALL | STAYS | MAX_FRAME, SMALL | STAYS | WINDOW, SMALL | STAYS | SPREAD}, /* PARAMS */
		{SMALL | REQUIRED | FIRST},								  /* LAYOUT_REJECTED */
		{SMALL | REQUIRED | FIRST},								  /* NEED_LAYOUT */
	};
	struct reader r;
	r.at = m->rx;
	r.end = m->rx + length;
	r.big = 0;
	uint32_t fault = 4200, what, bit;
	elements(&r);
	fields(m, &r, kinds[3]);
	what = m->told.is.first;
	if (r.at == NULL || what > 127)
		goto bad;
	if (what >= 32)
		return true;
	if (skip(r.at, r.end, r.left) != r.end)
		goto bad;
	what -= 16;
	if (what > 4) {
		fault = 4203;
		goto bad;
	}
	if (what == 2 && m->result_waits)
		return false;
	fields(m, &r, kinds[what]);
	bit = m->told.is.first;
	if (what == 3) {
		what = bit - 1 < 6 ? 4 + bit : 4;
		fields(m, &r, kinds[what]);
		bit = m->told.is.first;
	}
	/* Also if the rest was bad: these stay over connections. */
	if (m->told.is.heartbeat < 5)
		m->told.is.heartbeat = 5;
	if (m->told.is.max_frame < 256)
		m->told.is.max_frame = 256;
	if (m->told.is.spread == 0)
		m->told.is.spread = 1;
	if (r.at == NULL)
		goto bad;
	bit = 1u << (bit & 31);
	switch (what) {
	case 0: /* WELCOME */
		m->welcomed = true;
		/* fall through */
	case 5: /* TIME */
		if (!m->own_clock)
			learn(m, r.big);
		break;
	case 1:
		acked(m, &r);
		break;
	case 2:
		commanded(m, &r);
		break;
	case 7: /* GOAWAY */
		m->told.is.slot -= m->told.is.slot_min;
		if ((int32_t)m->told.is.slot <= 0 && m->told.is.slot_min > 0)
			m->told.is.slot = 1000;
		/* fall through */
	case 6: /* THROTTLE */
		m->noticed = m->now;
		break;
	case 9:
		m->link.rejected |= (uint16_t)bit;
		break;
	case 10:
		m->link.declared &= (uint16_t)~bit;
		break;
	}
	if (r.at == NULL && m->state == CONNECTED) {
bad:
		leave(m, fault, 4001); /* the server's fault: class R */
	}
	return true;
}

/* --- WebSocket in -------------------------------------------------------------------- */

/* take_in has the transport read up to most bytes; false: there are none. */
OUT_OF_LINE static bool take_in(struct mooring *m, uint8_t *to, uint32_t most)
{
	int more = m->config->recv(m->config->context, to, most);
	if (more < 0)
		broke(m, more);
	if (more <= 0)
		return false;
	m->link.got += (uint16_t)more;
	m->link.heard = m->now;
	m->link.pinged = false;
	return true;
}

/* receive takes what is there, at most one frame. False: nothing, or it has to
 * wait until something was sent. */
static bool receive(struct mooring *m)
{
	if (MESSAGES(m)) { /* a message that had to wait is there already */
		if ((m->link.got == 0 && !take_in(m, m->rx, MOORING_RX)) || !frame(m, m->link.got))
			return false;
		m->link.got = 0;
		return true;
	}
#if MOORING_WEBSOCKET
	/* A frame's head, of 2 or 4 bytes, and then its payload, which continues the
	 * message so far. got counts both. */
	const uint8_t *h = m->link.head;
	uint8_t *payload = m->rx + m->link.message;
	uint32_t opcode, length;
	for (;;) {
		uint32_t got = m->link.got, whole = 2, fault = 1002;
		uint8_t *to;
		opcode = h[0];
		length = h[1];
		if (got >= 2 && length == 126)
			whole = 4;
		if (got >= whole) {
			uint32_t kind = opcode & 0x7f;
			if (opcode >= (LAST | CLOSE) && opcode <= (LAST | PONG) && length <= 125)
				fault = 0;
			else if (kind == TEXT)
				fault = 4204;
			else if (kind + m->link.middle == BINARY && length < 128)
				fault = length == 127 ? 1009 : 0;
			if (length == 126)
				length = (uint32_t)(h[2] << 8 | h[3]);
			if (fault == 0 && length + m->link.message > MOORING_RX)
				fault = 1009;
			if (fault != 0) {
				leave(m, fault, 4001);
				return false;
			}
			to = payload + (got - whole);
			whole += length;
			if (got == whole)
				break;
		} else {
			to = m->link.head + got;
		}
		if (!take_in(m, to, whole - got))
			return false;
	}
	if (opcode == (LAST | PING)) {
		if (sending(m)) {
			if (length > 0)
				return false;
			m->link.pong = true;
		} else {
			put(begin(m), payload, length);
			message(m, LAST | PONG);
		}
	} else if (opcode == (LAST | CLOSE)) {
		/* Without a code it is 1005, which nobody may send. */
		uint32_t code = (uint32_t)(payload[0] << 8 | payload[1]), why = code;
		if (code < 1000)
			code = why = 1002;
		if (length < 2)
			code = 1000, why = 1005;
		leave(m, code, why);
	} else if (opcode != (LAST | PONG)) {
		length += m->link.message;
		if (opcode >= 128 && !frame(m, length))
			return false;
		m->link.middle = opcode < 128 ? BINARY : 0;
		m->link.message = opcode < 128 ? (uint16_t)length : 0;
	}
	m->link.got = 0;
	return true;
#endif
}

static void connected(struct mooring *m)
{
	m->state = CONNECTED;
	m->connects++;
	m->opened = m->link.heard = m->now;
	m->told.is.window = 4; /* before WELCOME, PROTOCOL 8.2 */
}

#if MOORING_WEBSOCKET

/* --- The handshake, RFC 6455 4.1 ------------------------------------------------------- */

/* base64 writes so many digits of six bits, from the top of five words on. It shifts
 * them, and a sixth, which is 0, behind them. */
OUT_OF_LINE static void base64(uint8_t *to, uint32_t *words, uint32_t digits)
{
	while (digits-- > 0) {
		uint32_t c = 'A' + (words[0] >> 26);
		if (c > 'Z')
			c += 'a' - 'Z' - 1;
		if (c > 'z') {
			c -= 'z' + 1 - '0';
			if (c > '9')
				c = '+' + (c - '9' - 1) * ('/' - '+');
		}
		*to++ = (uint8_t)c;
		for (uint32_t i = 0; i < 5; i++)
			words[i] = words[i] << 6 | words[i + 1] >> 26;
	}
}

#ifdef MOORING_SHA1

/* acceptance is base64(SHA-1(key, GUID)) without the "=" at its end, which are 27
 * bytes, of a key of 24. */
static void acceptance(uint8_t *to, const uint8_t *key)
{
	uint8_t text[60], digest[20];
	uint32_t words[6] = {0};
	memcpy(text, key, 24);
	memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
	if (MOORING_SHA1(text, sizeof text, digest) != 0)
		return; /* no answer is like what was there */
	for (uint32_t i = 0; i < 5; i++)
		words[i] = (uint32_t)get_be(digest + 4 * i, 4);
	base64(to, words, 27);
}

#else

static uint32_t rotated(uint32_t word, uint32_t by) { return word << by | word >> (32 - by); }

/* acceptance is base64(SHA-1(key, GUID)) without the "=" at its end, which are 27
 * bytes, of a key of 24. What SHA-1 moves with each step lies in one array, and so
 * moves at once: a place for the next a, then a to e, a place for the next word, and
 * the last 16 words, the youngest first. */
static void acceptance(uint8_t *to, const uint8_t *key)
{
	static const uint32_t start[16] = {
		0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0, 0,
		/* 258EAFA5-E914-47DA-95CA-C5AB0DC85B11, and the end */
		0x80000000, 0x35423131, 0x30444338, 0x43354142, 0x3543412d,
		0x44412d39, 0x342d3437, 0x2d453931, 0x41464135, 0x32353845,
	};
	uint32_t x[23], h[5];
	memcpy(x + 1, start, sizeof start);
	for (uint32_t i = 0; i < 6; i++)
		x[22 - i] = (uint32_t)get_be(key + 4 * i, 4);
	for (uint32_t blocks = 2; blocks > 0; blocks--) {
		memcpy(h, x + 1, sizeof h);
		for (uint32_t left = 80; left > 0; left--) {
			uint32_t b = x[2], c = x[3], d = x[4], f = b ^ c ^ d, k = 0x6ed9eba1;
			if (left > 60)
				f = d ^ (b & (c ^ d)), k = 0x5a827999;
			else if (left <= 20)
				k = 0xca62c1d6;
			else if (left <= 40)
				f = (b & c) | (d & (b ^ c)), k = 0x8f1bbcdc;
			x[0] = f + rotated(x[1], 5) + x[5] + k + x[22];
			x[2] = rotated(b, 30);
			x[6] = rotated(x[9] ^ x[14] ^ x[20] ^ x[22], 1);
			for (uint32_t i = 1, moved = x[0]; i < 23; i++) {
				uint32_t was = x[i];
				x[i] = moved;
				moved = was;
			}
		}
		for (uint32_t i = 0; i < 5; i++)
			x[1 + i] += h[i];
		memset(x + 6, 0, 17 * sizeof *x); /* the second block: only the length, in bits */
		x[7] = 60 * 8;
	}
	base64(to, x + 1, 27);
}

#endif

/* request writes the handshake into the frame memory. While the answer comes,
 * m->rx holds the acceptance and, behind it, a line. */
static void request(struct mooring *m)
{
	static const char text[] =
		"GET \2 HTTP/1.1\r\nHost:\1\r\nUpgrade:websocket\r\nConnection:Upgrade\r\n"
		"\5Version:13\r\n\5Protocol:mooring.v1\r\n\5Key:\4\r\nAuthorization:Bearer \3\r\n\r\n";
	const struct mooring_config *config = m->config;
	uint32_t nonce[6];
	uint8_t key[25];
	for (uint32_t i = 0; i < 4; i++)
		nonce[i] = config->random(config->context);
	nonce[4] = nonce[5] = 0;
	key[22] = key[23] = m->rx[27] = '=';
	key[24] = m->rx[28] = 0;
	base64(key, nonce, 22);
	acceptance(m->rx, key);
	const char *parts[] = {config->host, config->path, config->token, (const char *)key, "Sec-WebSocket-"};
	begin(m);
	m->end = m->ring;
	for (const char *c = text; *c != 0; c++) {
		const char *part = c;
		uint32_t length = 1;
		if (*c < 6) {
			part = parts[*c - 1];
			length = (uint32_t)strlen(part);
		}
		put(m, part, length);
	}
}

/* The beginnings of the lines that matter, up to the first colon or space and with it,
 * in lower case, as a number: 33 times that of what is before a byte, and the byte. */
enum {
	HTTP_1_1 = 0x4a75d49f, /* "http/1.1 " */
	ACCEPT = 0x7d40a966, /* "sec-websocket-accept:" */
	RETRY_AFTER = 0x3afcfa6f /* "retry-after:" */
};

/* response reads a byte of the answer's header, so that nothing of what follows is
 * taken. link.got is the length of the line so far; of a line that is too long the
 * rest is dropped. */
static bool response(struct mooring *m)
{
	uint8_t *line = m->rx + 29, *end = line + m->link.got;
	uint32_t length = m->link.got, name = 0, number = 0, c;
	if (!take_in(m, end, 1))
		return false;
	if (*end != '\n') {
		if (*end < ' ' || length >= MOORING_RX - 2 * 29) /* an acceptance is looked for up to its end */
			m->link.got = (uint16_t)length;
		return true;
	}
	m->link.got = 0;
	if (length == 0) {
		if (m->told.is.first == 101 && m->link.accepted)
			connected(m);
		else
			ended(m, m->told.is.first, 0);
		return true;
	}
	end[0] = end[1] = 0; /* what is, is not behind the end */
	do {
		c = *line++ | 0x20;
		name = 33 * name + c;
	} while (c != ' ' && c != ':');
	while (*line == ' ')
		line++;
	for (const uint8_t *digit = line; (c = *digit - (uint32_t)'0') < 10 && number >> 16 == 0; digit++)
		number = 10 * number + c;
	if (name == HTTP_1_1)
		m->told.is.first = number;
	if (name == ACCEPT)
		m->link.accepted = memcmp(line, m->rx, 29) == 0;
	if (name == RETRY_AFTER)
		mooring_retry_after(m, number);
	return true;
}

#endif

/* --- Frames of the device ------------------------------------------------------------------ */

static struct mooring *begin_frame(struct mooring *m, uint32_t head, uint32_t type)
{
	return put_byte(put_byte(begin(m), head), type);
}

static void hello(struct mooring *m)
{
	const struct mooring_config *config = m->config;
	m = begin_frame(m, 0x96, 1);
	m = put_fixed(m, 0xce, m->boot);
	m = put_fixed(m, 0xcd, config->heartbeat);
	m = put_fixed(m, 0xcd, MOORING_RX);
	m = put_string(m, config->model);
	m = put_string(m, config->firmware);
}

/* layout writes a LAYOUT. */
static void layout(struct mooring *m, uint32_t index)
{
	const struct mooring_layout *l = &m->config->layouts[index];
	const struct mooring_channel *c = l->channels;
	m = begin_frame(m, 0x94, 2);
	m = put_byte(m, index);
	m = put_string(m, l->name);
	m = put_fixed(m, 0xdc, l->count);
	for (uint32_t left = l->count; left > 0; left--, c++) {
		m = put_byte(m, 0x94);
		m = put_string(m, c->name);
		m = put_string(m, c->unit);
		m = put_byte(m, c->kind);
		m = put_int(m, c->exp10);
	}
}

/* fill writes DATA from the send cursor and moves that behind it; m->at NULL: not
 * even one record fits. It says whether no more would have. */
OUT_OF_LINE static bool fill(struct mooring *m)
{
	const uint8_t *first = m->send;
	uint64_t time = time_of(first);
	uint32_t form = form_of(first), n = rows_of(first), before_it = (uint32_t)time, same = (uint32_t)get_be(first + 2, 4);
	m = begin_frame(m, 0x97, 3);
	m = put_wide(m, 0xcf, m->head_seq + m->sent);
	m = put_fixed(m, 0xcd, n);
	m = put_wide(m, 0xcf, time);
	m = put_byte(m, first[2] & 15u);
	uint32_t width = m->config->layouts[first[2] & 15].count;
	if (is_block(form)) {
		uint32_t body = body_of(first) - (MOORING_BLOCK_HEAD - HEAD);
		m = put_fixed(m, 0xce, (uint32_t)get_be(first + HEAD + 2, 4));
		if (form == REGULAR)
			m = put_fixed(m, 0xdc, n * width);
		else
			m = put_byte(put_fixed(m, 0xc8, body), form);
		m = put(m, first + MOORING_BLOCK_HEAD, body);
		if (m->at != NULL)
			sent_one(m);
		return true;
	}
	m = put_byte(m, 0);
	m = put_fixed(m, 0xdc, 0);
	bool full = true;
	width++;
	/* A frame has less than 64 KiB, and so has less elements. */
	for (n = 0; n < 4096; n++) {
		if (m->sent >= m->waiting) {
			full = false;
			break;
		}
		const uint8_t *row = m->send;
		/* Of the same layout and form, and of times whose upper 18 bits are the same: they
		 * lie within 12 days, and BY_TICK is among them. */
		uint32_t low = (uint32_t)get_be(row + 5, 4);
		if ((uint32_t)(get_be(row + 2, 4) ^ same) >> 6 != 0)
			break;
		uint8_t *before = m->at;
		m = put_int(m, (int32_t)(low - before_it));
		m = put(m, row + HEAD, body_of(row));
		if (m->at == NULL) {
			if (n > 0)
				m->at = before;
			break;
		}
		before_it = low;
		sent_one(m);
	}
	put_be(m->frame + WS_HEAD + 12, 2, n); /* behind the frame's head, type, and seq */
	put_be(m->frame + WS_HEAD + 26, 2, n * width); /* behind t0, layout and step */
	return full;
}

/* data writes what the window, a THROTTLE and lingering allow. */
static bool data(struct mooring *m)
{
	uint8_t *next = m->send;
	uint32_t sent = m->sent;
	if (sent >= m->waiting) {
		m->flush = false;
		return false;
	}
	uint32_t index = next[2] & 15, bit = 1u << index;
	if (form_of(next) == GAP) {
		sent_one(m);
		m->wait = 0; /* for the next one */
		return false;
	}
	if ((next[3] & 0x80) != 0 || m->link.flights >= MOORING_WINDOW || m->link.flights >= m->told.is.window)
		return false;
	if (!over(m, m->noticed, m->told.is.pause_for * 1000) && !over(m, m->data_at, m->told.is.pause))
		return false;
	if ((m->link.rejected & bit) == 0) {
		if ((m->link.declared & bit) == 0) {
			layout(m, index);
			if (m->at != NULL) {
				m->link.declared |= (uint16_t)bit;
				return true;
			}
		} else if (!fill(m) && !m->flush && !over(m, m->data_at, m->config->linger_ms)) {
			m->send = next;
			m->sent = sent;
			return false;
		} else if (m->at != NULL) {
			m->data_at = m->now;
			m->flight[m->link.flights++] = (uint32_t)m->head_seq + m->sent;
			return true;
		}
	}
	/* No frame can hold it, or nobody wants it: the oldest can be given up, if nothing
	 * is on its way; it may be a gap before it. What the server takes is known from
	 * WELCOME on. */
	if (m->welcomed && m->link.flights == 0) {
		drop_oldest(m);
		m->wait = 0;
	}
	return false;
}

/* compose writes the next message; 0: there is none, else its opcode. */
static uint32_t compose(struct mooring *m)
{
	uint32_t beat = m->told.is.heartbeat * 1000u;
	if (!m->link.hello) {
		m->link.hello = true;
		hello(m);
		return LAST | BINARY;
	}
	if (m->link.pong) {
		m->link.pong = false;
		begin(m);
		return LAST | PONG;
	}
	if (m->result_waits) {
		m->result_waits = false;
		put_fixed(put_wide(begin_frame(m, 0x93, 4), 0xcf, m->result_id), 0xcc, m->result_status);
		return LAST | BINARY;
	}
	if (m->told.is.goaway != 0) {
		/* The server's close comes first. */
		if (over(m, m->noticed, m->told.is.grace + 2000) || (m->told.is.grace > 0 && m->link.flights == 0))
			part(m, m->told.is.goaway);
		return 0;
	}
	/* Behind a transport that hides the server's Pings, ours show that it lives. */
	if (MESSAGES(m) && !m->link.pinged && over(m, m->link.heard, beat)) {
		m->link.pinged = true;
		begin_frame(m, 0x91, 5);
		return LAST | BINARY;
	}
	return data(m) ? LAST | BINARY : 0;
}

/* --- The interface ------------------------------------------------------------------------ */

bool mooring_init(struct mooring *m, const struct mooring_config *config, void *memory, uint32_t size, uint16_t frame_size, uint32_t tick)
{
	memset(m, 0, sizeof *m);
	if (frame_size < MOORING_FRAME_MIN || size < frame_size + 64u || config->layout_count > 16)
		return false;
	m->config = config;
	m->frame = memory;
	m->head = m->tail = m->send = m->ring = m->frame + frame_size;
	m->ring_end = m->frame + size;
	m->now = tick;
	m->flush = true; /* the first rows need not linger */
	m->told.is.heartbeat = 30;
	m->told.is.spread = 5;
	m->told.is.max_frame = frame_size;
	m->boot = config->random(config->context);
	m->time = BY_TICK;
#if MOORING_WEBSOCKET
	if (!MESSAGES(m))
		request(m);
	else
#endif
		begin(m);
	for (uint32_t i = 0; m->at != NULL && i < config->layout_count; i++)
		layout(m, i);
	m->told.is.max_frame = 256; /* what every server takes, until WELCOME says more */
	return m->at != NULL;
}

/* step does the next thing, and says whether there may be more to do at once. */
OUT_OF_LINE static bool step(struct mooring *m)
{
	if (m->state == STOPPED)
		return false;
	if (m->state == IDLE) {
		if (!over(m, m->opened, m->pause))
			return false;
		memset(&m->link, 0, sizeof m->link);
		memset(&m->told.is.pause, 0, sizeof m->told - 3 * sizeof(uint32_t));
		m->opened = m->now;
		m->state = OPENING;
	}
	if (m->state != CONNECTED) {
		if (over(m, m->opened, CONNECT_MS)) {
			ended(m, 0, 0);
			return false;
		}
		m->wait = 20;
	}
	if (m->state == OPENING) {
		int result = m->config->open(m->config->context);
		if (result < 0)
			broke(m, result);
		if (result <= 0)
			return false;
#if MOORING_WEBSOCKET
		if (!MESSAGES(m)) {
			m->state = UPGRADING;
			request(m);
			m->link.sent = m->frame + WS_HEAD;
			m->link.pending = m->at;
			return true;
		}
#endif
		connected(m);
	}
	bool moved = flush(m);
#if MOORING_WEBSOCKET
	if (moved && m->state == UPGRADING)
		return response(m);
#endif
	moved = moved && receive(m);
	uint32_t opcode;
	if (m->state == CONNECTED && !sending(m) && (opcode = compose(m)) != 0) {
		message(m, opcode);
		moved = true;
	}
	uint32_t dead = 2000u * m->told.is.heartbeat; /* PROTOCOL 8.4.2 */
	if (m->state == CONNECTED && over(m, m->link.heard, dead))
		part(m, 0);
	return moved;
}

uint32_t mooring_poll(struct mooring *m, uint32_t tick)
{
	m->time += tick - m->now;
	m->now = tick;
	m->wait = UINT32_MAX;
	/* The bound lets the caller's other work go on. */
	for (uint32_t turns = 254; step(m); turns--)
		if (turns == 0)
			return 0;
	return m->wait;
}

/* append adds a record. data is n times the layout's values, or as many numbers. */
bool mooring_append_packed(struct mooring *m, uint8_t index, uint64_t time, uint32_t step_us,
			   uint16_t n, uint8_t type, const void *data)
{
	const struct mooring_value *values = data, *end = values, *v;
	static const uint8_t widths[] = {5, 5, 2, 4, 4}; /* of a value, at most: what is not needed is not taken */
	uint32_t form = type, count = 0, length = UINT32_MAX - HEAD; /* more than there is */
	if (form < (MOORING_BLOCKS ? sizeof widths : 1) && index < m->config->layout_count)
		count = n * m->config->layouts[index].count;
	if (count > 0) {
		uint32_t most = MOORING_BLOCK_HEAD + widths[form] * count;
		if (form <= REGULAR)
			end += count;
		for (v = values; v < end; v++)
			if (v->type == 0xd9)
				most += (uint32_t)strlen(v->as.text);
		if (most + 42 <= (uint32_t)(m->ring - m->frame)) /* else no frame could hold it */
			length = most;
	}
	uint8_t *to = reserve(m, length, n);
	if (to == NULL)
		return false;
	m->at = to + HEAD;
	m->end = to + length;
	to[2] = (uint8_t)(index | form << 4);
	put_be(to + 3, 6, time != MOORING_NOW ? time & ~BY_TICK : m->time);
	if (is_block(form)) {
		put_be(m->at, 6, (uint64_t)n << 32 | step_us); /* n 2, step 4 */
		m->at += MOORING_BLOCK_HEAD - HEAD;
	}
	for (v = values; v < end; v++)
		put_value(m, v);
	if (is_block(form) && form != REGULAR)
		put(m, data, length - MOORING_BLOCK_HEAD);
	length = (uint32_t)(m->at - to) - HEAD;
	to[0] = (uint8_t)length;
	to[1] = (uint8_t)(length >> 8);
	added(m);
	return true;
}

void mooring_set_time(struct mooring *m, uint64_t time)
{
	m->own_clock = true;
	learn(m, time);
}

void mooring_stop(struct mooring *m)
{
	if (m->state % STOPPED != IDLE)
		part(m, 1000);
	m->state = STOPPED;
}

#if MOORING_FLASH

bool mooring_restore(struct mooring *m, uint64_t seq, const uint8_t *record, uint16_t length)
{
	if (m->waiting == 0)
		m->head_seq = seq;
	uint64_t gap = seq - m->head_seq - m->waiting;
	if (gap >> 32 != 0)
		return false;
	m->gap = (uint32_t)gap;
	if (record == NULL)
		return true;
	if (length < HEAD + 1 || length != HEAD + body_of(record) || form_of(record) >= (MOORING_BLOCKS ? GAP : REGULAR) ||
	    (record[2] & 15) >= m->config->layout_count ||
	    (is_block(form_of(record)) && length <= MOORING_BLOCK_HEAD) || rows_of(record) == 0)
		return false; /* memory that was not what keep was given */
	uint8_t *to = reserve(m, length, 0);
	if (to == NULL)
		return false;
	memcpy(to, record, length);
	added(m);
	return true;
}

#endif
