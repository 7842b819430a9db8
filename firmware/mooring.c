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

#if MOORING_WEBSOCKET
#define MESSAGES(m) ((m)->config->messages)
#else
#define MESSAGES(m) true
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

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 }; /* RFC 6455 5.2 */

#define WS_HEAD 8		 /* of a masked message below 64 KiB */
#define CONNECT_MS 30000	 /* for opening and the handshake */
#define STEADY_MS 60000		 /* a connection that lived so long is progress, PROTOCOL 9.2 */
#define FARTHEST ((uint64_t)1 << 53)
#define ABSENT UINT64_MAX
#define DAY_MS 86400000u

/* --- Numbers as bytes, most significant first ------------------------------ */

/* The 64-bit number is the third argument, and not the second: so it comes to lie
 * in the registers 2 and 3, and nothing on the stack. */
static void put_be(uint8_t *at, uint32_t bytes, uint64_t number)
{
	while (bytes > 0) {
		at[--bytes] = (uint8_t)number;
		number >>= 8;
	}
}

static uint64_t get_be(const uint8_t *at, uint32_t bytes)
{
	uint64_t number = 0;
	while (bytes-- > 0)
		number = number << 8 | *at++;
	return number;
}

/* --- The ring ---------------------------------------------------------------
 *
 * Records lie one behind the other and are never split: one that does not fit
 * before the end of the memory begins anew at its start. Each is
 *
 *   length of the body 2, layout and form 1, time 6, body
 *
 * Forms: ROW: the body is the values. REGULAR: n 2, step 4, the values. 2 to 4:
 * the same, packed as numbers of that type. GAP: the time is a count of rows that
 * were given up here. SKIP: go on at the start. The top bit of a time says that
 * it counts from mooring_init, because the clock was not known. */

enum { ROW = 0, REGULAR = 1, GAP = 5, SKIP = 6 };

#define HEAD MOORING_ROW_HEAD
#define BY_TICK ((uint64_t)1 << 47)

static uint8_t form_of(const uint8_t *record) { return record[2] >> 4; }
static uint32_t body_of(const uint8_t *record) { return (uint32_t)(record[0] << 8 | record[1]); }
static uint64_t time_of(const uint8_t *record) { return get_be(record + 3, 6); }

/* rows_of is how many sequence numbers a record stands for. */
static uint32_t rows_of(const uint8_t *record)
{
	if (form_of(record) == GAP)
		return (uint32_t)get_be(record + 5, 4);
	return form_of(record) == ROW ? 1 : (uint32_t)get_be(record + HEAD, 2);
}

/* at goes to the start if no record lies at the cursor. One must be left. */
static uint8_t *at(const struct mooring *m, uint32_t *cursor)
{
	if (m->size - *cursor < HEAD || form_of(m->ring + *cursor) == SKIP)
		*cursor = 0;
	return m->ring + *cursor;
}

/* pass moves a cursor behind the record there, and gives its rows. */
static uint32_t pass(const struct mooring *m, uint32_t *cursor)
{
	uint8_t *here = at(m, cursor);
	*cursor += HEAD + body_of(here);
	return rows_of(here);
}

/* forget frees every record that ends within the oldest so many rows, and counts
 * as lost what was not settled. */
static bool forget(struct mooring *m, uint32_t rows, bool settled)
{
	uint32_t before = m->waiting;
	while (m->records > 0) {
		uint8_t *oldest = at(m, &m->head);
		uint32_t n = rows_of(oldest);
		if (n > rows)
			break;
		rows -= n;
		if (!settled && form_of(oldest) != GAP)
			m->lost += n;
		m->records--;
		m->waiting -= n;
		m->head_seq += n;
		pass(m, &m->head);
		if (m->records > 0)
			at(m, &m->head); /* free is what lies before it */
		if (m->sent >= n) {
			m->sent -= n;
		} else {
			m->sent = 0;
			m->send = m->head;
		}
	}
	if (m->records == 0)
		m->head = m->tail = m->send = 0;
	if (m->waiting == before)
		return false;
	if (m->config->forget != NULL)
		m->config->forget(m->config->context, m->head_seq);
	return true;
}

static void drop_oldest(struct mooring *m) { forget(m, rows_of(at(m, &m->head)), false); }

static void keep(struct mooring *m, uint64_t seq, const uint8_t *record)
{
	if (m->config->keep != NULL && (record[3] & 0x80) == 0 && form_of(record) != GAP)
		m->config->keep(m->config->context, seq, record, (uint16_t)(HEAD + body_of(record)));
}

/* added makes the record at the tail one of the ring. */
static void added(struct mooring *m, const uint8_t *record)
{
	keep(m, m->head_seq + m->waiting, record);
	m->records++;
	m->waiting += pass(m, &m->tail);
}

/* reserve finds room at the tail for a record of so many bytes; NULL, and its
 * rows counted: there is none. A gap before it becomes a record of its own. */
static uint8_t *reserve(struct mooring *m, uint32_t length, uint32_t rows)
{
	uint32_t gap = m->gap ? HEAD : 0;
	uint8_t *to;
	length += gap;
	for (;;) {
		uint32_t end = m->size;
		if (m->records > 0 && m->tail <= m->head)
			end = m->head; /* what is free lies before the oldest */
		if (end - m->tail >= length)
			break;
		if (end == m->size && m->records > 0 && m->head >= length) {
			if (m->size - m->tail >= HEAD)
				m->ring[m->tail + 2] = SKIP << 4;
			if (m->send == m->tail)
				m->send = 0;
			m->tail = 0;
			break;
		}
		if (!m->config->drop_oldest || m->records == 0) {
			m->gap += rows;
			m->lost += rows;
			return NULL;
		}
		drop_oldest(m);
	}
	to = m->ring + m->tail;
	if (gap > 0) {
		memset(to, 0, HEAD);
		to[2] = GAP << 4;
		put_be(to + 5, 4, m->gap);
		m->gap = 0;
		added(m, to);
		to += HEAD;
	}
	return to;
}

/* --- MessagePack out --------------------------------------------------------- */

/* A writer whose end was passed stays there: at is NULL. */
struct writer {
	uint8_t *at, *end;
};

static void put(struct writer *w, const void *bytes, uint32_t length)
{
	if (w->at == NULL || (uint32_t)(w->end - w->at) < length) {
		w->at = NULL;
		return;
	}
	memcpy(w->at, bytes, length);
	w->at += length;
}

static void put_byte(struct writer *w, uint32_t byte)
{
	uint8_t b = (uint8_t)byte;
	put(w, &b, 1);
}

/* put_wide is for the few numbers of up to 64 bits. Those of put_fixed have 32, so
 * that its arguments fit into registers. */
static void put_wide(struct writer *w, uint32_t bytes, uint64_t number, uint32_t head)
{
	uint8_t b[9];
	b[0] = (uint8_t)head;
	put_be(b + 1, bytes, number);
	put(w, b, bytes + 1);
}

static void put_fixed(struct writer *w, uint32_t head, uint32_t number, uint32_t bytes)
{
	put_wide(w, bytes, number, head);
}

/* put_int takes one byte, or two, three, five, nine. */
static void put_int(struct writer *w, int64_t number)
{
	if (number >= -32 && number < 128)
		put_byte(w, (uint32_t)number);
	else if (number == (int16_t)number)
		put_fixed(w, 0xd1, (uint32_t)number, 2);
	else if (number == (int32_t)number)
		put_fixed(w, 0xd2, (uint32_t)number, 4);
	else
		put_wide(w, 8, (uint64_t)number, 0xd3);
}

static void put_string(struct writer *w, const char *text)
{
	if (text == NULL) {
		put_byte(w, 0xc0);
		return;
	}
	uint32_t length = (uint32_t)strlen(text);
	if (length > 255)
		length = 255;
	put_fixed(w, 0xd9, length, 1);
	put(w, text, length);
}

static void put_value(struct writer *w, const struct mooring_value *value)
{
	switch (value->type) {
	case 1:
		put_int(w, value->as.integer);
		break;
	case 2: {
		uint32_t bits;
		memcpy(&bits, &value->as.number, 4);
		put_fixed(w, 0xca, bits, 4);
		break;
	}
	case 3:
		put_byte(w, value->as.integer ? 0xc3 : 0xc2);
		break;
	case 4:
		put_string(w, value->as.text);
		break;
	default:
		put_byte(w, 0xc0);
	}
}

/* --- MessagePack in ---------------------------------------------------------- */

/* A reader of one frame. left counts the elements that the array still has. Once
 * bad it reads zeros. (bad is a word since a Cortex-M0+ has no loads and stores of
 * bytes on the stack.) */
struct reader {
	const uint8_t *at, *end;
	uint32_t left, bad;
};

static const uint8_t *take(struct reader *r, uint32_t length)
{
	static const uint8_t zeros[8];
	const uint8_t *from = r->at;
	if (r->bad || (uint32_t)(r->end - from) < length) {
		r->bad = true;
		return zeros;
	}
	r->at += length;
	return from;
}

static uint64_t take_be(struct reader *r, uint32_t bytes) { return get_be(take(r, bytes), bytes); }

/* big is an integer of any width up to 2^53. *is stays if it is nil or missing,
 * which is bad if it was ABSENT. */
static void big(struct reader *r, uint64_t *is)
{
	if (r->left > 0) {
		r->left--;
		uint32_t b = (uint32_t)take_be(r, 1);
		if (b < 0x80) {
			*is = b;
		} else if (b >= 0xcc && b <= 0xd3) {
			*is = take_be(r, 1u << (b & 3));
			if (b >= 0xd0 && (r->at[-(1 << (b & 3))] & 0x80) != 0)
				r->bad = true; /* nothing of ours is negative */
		} else if (b != 0xc0) {
			r->bad = true;
		}
	}
	if (*is >> 32 > FARTHEST >> 32)
		r->bad = true;
}

/* small is the same up to most; what is above and not otherwise is bad. */
static uint32_t small(struct reader *r, uint32_t otherwise, uint32_t most)
{
	uint64_t is = otherwise;
	big(r, &is);
	if (is > most)
		r->bad = true;
	return (uint32_t)is;
}

static uint64_t required(struct reader *r)
{
	uint64_t is = ABSENT;
	big(r, &is);
	return is;
}

#define REQUIRED UINT32_MAX

static uint32_t word(struct reader *r, uint32_t otherwise) { return small(r, otherwise, UINT16_MAX); }

OUT_OF_LINE static uint32_t needed_word(struct reader *r) { return word(r, REQUIRED); }

/* capped is for waits: nothing longer than a day is believed. */
static uint32_t capped(struct reader *r)
{
	uint32_t value = small(r, 0, UINT32_MAX);
	return value < DAY_MS ? value : DAY_MS;
}

static void open_array(struct reader *r)
{
	uint32_t b = (uint32_t)take_be(r, 1);
	if (b == 0xdc)
		r->left = (uint32_t)take_be(r, 2);
	else if (b >> 4 == 9)
		r->left = b & 15;
	else
		r->bad = true;
}

/* skip passes over one value of any kind (PROTOCOL 3.3 to 3.5), without going
 * deeper than one call. */
static void skip(struct reader *r)
{
	/* From 0xc4: the low bits say how many bytes of length follow, or, from bit
	 * 2 on, how many bytes. 3: not allowed. */
	static const uint8_t sizes[] = {
		1, 2, 3, 1, 2, 3, 4 << 2, 8 << 2, 1 << 2, 2 << 2, 4 << 2, 8 << 2, 1 << 2, 2 << 2,
		4 << 2, 8 << 2, 2 << 2, 3 << 2, 5 << 2, 9 << 2, 17 << 2, 1, 2, 3, 2, 3, 2, 3,
	};
	uint32_t todo = 1;
	if (r->left == 0)
		return;
	r->left--;
	while (todo > 0 && !r->bad) {
		uint32_t b = (uint32_t)take_be(r, 1), length = 0;
		todo--;
		if (b < 0x80 || b >= 0xe0 || b == 0xc0 || b == 0xc2 || b == 0xc3) {
			continue;
		} else if (b < 0x90) {
			todo += 2 * (b & 15);
		} else if (b < 0xa0) {
			todo += b & 15;
		} else if (b < 0xc0) {
			length = b & 31;
		} else if (b == 0xc1 || sizes[b - 0xc4] == 3) {
			r->bad = true;
		} else {
			uint32_t size = sizes[b - 0xc4];
			length = size >> 2;
			if (length == 0)
				length = (uint32_t)take_be(r, size);
			if (b >= 0xdc) { /* array, map */
				todo += b == 0xde ? 2 * length : length;
				length = 0;
			} else if (b >= 0xc7 && b <= 0xc9) { /* ext: its type */
				length++;
			}
		}
		take(r, length);
	}
}

/* --- Time -------------------------------------------------------------------- */

static bool due(const struct mooring *m, uint32_t when) { return (int32_t)((uint32_t)m->now - when) >= 0; }
static uint32_t since(const struct mooring *m, uint32_t when) { return (uint32_t)m->now - when; }

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
	m->offset = time - m->now;
	if (m->clock)
		return;
	m->clock = true;
	uint32_t cursor = m->head;
	uint64_t seq = m->head_seq;
	for (uint32_t left = m->records; left > 0; left--) {
		uint8_t *here = at(m, &cursor);
		if ((here[3] & 0x80) != 0) {
			put_be(here + 3, 6, (time_of(here) & ~BY_TICK) + m->offset);
			keep(m, seq, here);
		}
		seq += pass(m, &cursor);
	}
}

/* --- The end of a connection --------------------------------------------------- */

/* class_of is the table of PROTOCOL 9.1: below 600 HTTP, 0 the network. Each
 * entry holds for the codes below it that those before it do not hold for. */
#define BELOW(code, class) (uint16_t)((code) << 2 | (class))
static uint32_t class_of(uint32_t code)
{
	static const uint16_t below[] = {
		BELOW(100, CLASS_RETRY), BELOW(400, CLASS_LATER), BELOW(401, CLASS_FAULT),
		BELOW(402, CLASS_TERMINAL), BELOW(403, CLASS_FAULT), BELOW(404, CLASS_TERMINAL),
		BELOW(408, CLASS_FAULT), BELOW(409, CLASS_RETRY), BELOW(429, CLASS_FAULT),
		BELOW(430, CLASS_LATER), BELOW(500, CLASS_FAULT), BELOW(503, CLASS_RETRY),
		BELOW(504, CLASS_LATER), BELOW(1002, CLASS_RETRY), BELOW(1004, CLASS_FAULT),
		BELOW(1007, CLASS_RETRY), BELOW(1008, CLASS_FAULT), BELOW(1009, CLASS_LATER),
		BELOW(1010, CLASS_FAULT), BELOW(1013, CLASS_RETRY), BELOW(1014, CLASS_LATER),
		BELOW(4100, CLASS_RETRY), BELOW(4200, CLASS_LATER), BELOW(4300, CLASS_FAULT),
		BELOW(4500, CLASS_LATER), BELOW(4600, CLASS_TERMINAL), BELOW(16383, CLASS_LATER),
	};
	const uint16_t *entry = below;
	while (code < 16383 && code >= *entry >> 2)
		entry++;
	return code < 16383 ? *entry & 3 : CLASS_LATER;
}

OUT_OF_LINE static uint32_t doubled(uint32_t base, uint32_t times, uint32_t limit)
{
	while (times-- > 0 && base < limit)
		base *= 2;
	return base < limit ? base : limit;
}

/* wait_after is PROTOCOL 9.2 and 9.3. */
static uint32_t wait_after(struct mooring *m, uint32_t class)
{
	uint32_t spread = (m->spread > 0 ? m->spread : 1) * 1000u;
	uint32_t wait = up_to(m, doubled(spread, m->failures, 600000));
	static const uint8_t least[] = {0, 60, 10}; /* seconds, of R, L, F */
	if (class == CLASS_TERMINAL)
		wait += doubled(450000, m->failures > 0 ? m->failures : 1, 21600000);
	else
		wait += least[class] * 1000u;
	if (m->asked.slot > 0) {
		uint32_t slot = m->asked.slot_min + up_to(m, m->asked.slot);
		if ((class == CLASS_RETRY && m->link.progress) || slot > wait)
			wait = slot;
	}
	if (m->asked.retry_after > 0) {
		uint32_t sooner = m->asked.retry_after + up_to(m, spread);
		if (sooner > wait)
			wait = sooner;
	}
	return wait;
}

/* ended closes the transport, judges why it ended (PROTOCOL 9), and sets the
 * time of the next attempt. */
static void ended(struct mooring *m, uint32_t code, uint32_t close_code)
{
	m->config->close(m->config->context, (uint16_t)close_code);
	if (m->link.goaway != 0)
		code = m->link.goaway;
	uint32_t class = class_of(code);
	m->ended = (uint16_t)code;
	if (m->state == CONNECTED && since(m, m->opened) >= STEADY_MS)
		m->link.progress = true;
	if (m->link.progress)
		m->failures = m->faults = 0;
	else if (m->failures < 20)
		m->failures++;
	if (m->link.flights > 0) {
		if (class != CLASS_FAULT)
			m->faults = 0; /* not in a row */
		else if (++m->faults >= 2) { /* PROTOCOL 9.4 */
			m->faults = 0;
			forget(m, m->flight[0] - (uint32_t)m->head_seq, false);
		}
	}
	m->send = m->head; /* PROTOCOL 8.3.2 */
	m->sent = 0;
	m->wake = (uint32_t)m->now + wait_after(m, class);
	m->state = IDLE;
}

/* broke ends with the negative result of a callback. */
static void broke(struct mooring *m, int result)
{
	ended(m, result == -1 ? 0 : (uint32_t)-result, 0);
}

/* --- WebSocket out ------------------------------------------------------------- */

/* message has length bytes, that stand behind WS_HEAD in the frame memory, sent
 * as one message. */
static void message(struct mooring *m, uint8_t opcode, uint32_t length)
{
	uint32_t from = WS_HEAD;
	if (!MESSAGES(m)) {
		uint8_t *mask = m->frame + WS_HEAD - 4, *payload = m->frame + WS_HEAD;
		put_be(mask, 4, m->config->random(m->config->context));
		for (uint32_t i = 0; i < length; i++)
			payload[i] ^= mask[i & 3];
		if (length > 125) {
			put_be(m->frame + 2, 2, length);
			from = 0;
			m->frame[1] = 0x80 | 126;
		} else {
			from = 2;
			m->frame[3] = (uint8_t)(0x80 | length);
		}
		m->frame[from] = (uint8_t)(0x80 | opcode);
	}
	m->link.sent = (uint16_t)from;
	m->link.pending = (uint16_t)(WS_HEAD + length);
}

static bool sending(const struct mooring *m) { return m->link.sent < m->link.pending; }

/* flush gives the transport what waits; false: the connection ended. */
static bool flush(struct mooring *m)
{
	while (sending(m)) {
		int taken = m->config->send(m->config->context, m->frame + m->link.sent, (size_t)(m->link.pending - m->link.sent));
		if (taken < 0) {
			broke(m, taken);
			return false;
		}
		if (taken == 0)
			break;
		m->link.sent = (uint16_t)(m->link.sent + taken);
	}
	return true;
}

/* leave says goodbye with code, if nothing is half sent, and ends because of why. */
static void leave(struct mooring *m, uint32_t code, uint32_t why)
{
	if (m->state == CONNECTED && !MESSAGES(m) && !sending(m)) {
		put_be(m->frame + WS_HEAD, 2, code);
		message(m, CLOSE, 2);
		if (!flush(m))
			return;
	}
	ended(m, why, code);
}

/* --- Frames of the server --------------------------------------------------------- */

/* rows_before says how many of the rows that were sent, from the oldest on, have
 * a number below seq. */
static uint32_t rows_before(const struct mooring *m, uint64_t seq)
{
	if (seq < m->head_seq)
		return 0;
	seq -= m->head_seq;
	return seq < m->sent ? (uint32_t)seq : m->sent;
}

/* acked is PROTOCOL 6.2. Rows refused with a code from 64 on may be taken later,
 * but on another connection (PROTOCOL 7.2): they are kept, and so is what is
 * behind them, and we come back; three times, then they count as refused. */
static void acked(struct mooring *m, struct reader *r)
{
	uint64_t next = required(r);
	uint32_t window = needed_word(r), rejected = small(r, 0, UINT32_MAX), why = 0;
	if (r->bad)
		return;
	uint32_t settled = rows_before(m, next); /* no ACK covers what was not sent */
	uint32_t hold = settled, end = (uint32_t)m->head_seq + settled, over = 0;
	if (r->left > 0 && *r->at != 0xc0) {
		open_array(r);
		while (r->left > 0 && !r->bad) {
			uint64_t seq = required(r);
			uint32_t n = small(r, REQUIRED, REQUIRED - 1);
			uint32_t channel = small(r, REQUIRED, REQUIRED), code = needed_word(r);
			if (r->bad)
				return;
			uint32_t from = rows_before(m, seq);
			if (code >= 64 && channel == REQUIRED && m->link.rejected == 0 &&
			    from < hold && rows_before(m, seq + n) > 0) {
				hold = from;
				why = code == 65 ? 4103 : 1000;
			} else if (m->config->refused != NULL) {
				m->config->refused(m->config->context, seq, n, (int)channel, (uint8_t)code);
			}
		}
	}
	m->link.window = (uint16_t)window;
	m->rejected += rejected;
	while (over < m->link.flights && (int32_t)(m->flight[over] - end) <= 0)
		over++;
	m->link.flights = (uint8_t)(m->link.flights - over);
	memmove(m->flight, m->flight + over, m->link.flights * sizeof m->flight[0]);
	if (why != 0) {
		uint32_t held = (uint32_t)m->head_seq + hold;
		m->hold_rounds = held == m->hold ? (uint8_t)(m->hold_rounds + 1) : 1;
		m->hold = held;
		if (m->hold_rounds > 3) /* again and again: as if for good */
			why = 0;
		else
			settled = hold;
	}
	if (forget(m, settled, true))
		m->link.progress = true;
	if (why != 0)
		leave(m, 1000, why);
}

/* parameters are in WELCOME and PARAMS: hb, max_frame, window, spread. */
static void parameters(struct mooring *m, struct reader *r)
{
	uint32_t heartbeat = word(r, m->heartbeat);
	uint32_t most = small(r, m->max_frame, 65536);
	uint32_t window = word(r, m->link.window);
	uint32_t spread = word(r, m->spread);
	if (r->bad)
		return;
	m->heartbeat = (uint16_t)(heartbeat < 5 ? 5 : heartbeat);
	m->max_frame = most < 256 ? 256 : most;
	m->link.window = (uint16_t)window;
	m->spread = (uint16_t)spread;
}

/* told_time takes the server's clock, unless ours is better. */
static void told_time(struct mooring *m, struct reader *r)
{
	uint64_t time = required(r);
	if (!r->bad && !m->own_clock)
		learn(m, time);
}

static void noticed(struct mooring *m, struct reader *r)
{
	uint32_t kind = needed_word(r);
	if (kind == 4) {
		parameters(m, r);
	} else if (kind == 1) {
		told_time(m, r);
	} else if (kind == 2) {
		m->asked.gap = capped(r);
		uint32_t seconds = capped(r);
		if (seconds > DAY_MS / 1000)
			seconds = DAY_MS / 1000;
		m->asked.gap_until = (uint32_t)m->now + seconds * 1000;
	} else if (kind == 3) {
		m->link.goaway = (uint16_t)needed_word(r);
		uint32_t grace = capped(r);
		m->asked.slot_min = capped(r);
		m->asked.slot = capped(r) - m->asked.slot_min;
		if ((int32_t)m->asked.slot <= 0 && m->asked.slot_min > 0)
			m->asked.slot = 1000;
		m->link.graceful = grace > 0;
		m->asked.until = (uint32_t)m->now + grace + 2000; /* the server's close comes first */
	} else if (kind == 5 || kind == 6) {
		uint32_t bit = 1u << (needed_word(r) & 31);
		if (kind == 6)
			m->link.declared &= (uint16_t)~bit;
		else
			m->link.rejected |= (uint16_t)bit;
	}
}

/* commanded answers a COMMAND, or waits until the answer before has gone. */
static bool commanded(struct mooring *m, struct reader *r)
{
	struct mooring_command command;
	uint32_t status = MOORING_UNKNOWN;
	if (m->result_waits)
		return false;
	command.id = required(r);
	const uint8_t *from = r->at;
	if (r->left == 0 || (*from >> 5 != 5 && *from != 0xd9 && *from != 0xda))
		r->bad = true;
	if (r->bad)
		return true;
	skip(r);
	uint32_t head = *from < 0xd9 ? 1u : *from - 0xd7u; /* bytes of the string's header: 0xa0 to 0xbf 1, 0xd9 2, 0xda 3 */
	command.name = from + head;
	command.name_length = (uint16_t)(r->at - command.name);
	command.args = r->at;
	skip(r);
	command.args_length = (uint16_t)(r->at - command.args);
	uint32_t ttl = capped(r);
	command.flags = (uint8_t)word(r, 0);
	if (r->bad)
		return true;
	m->result_id = command.id;
	m->result_waits = true;
	/* Nothing is read while a command waits to begin, so this is since it came. */
	if (ttl > 0 && since(m, m->link.heard) / 1000 >= ttl)
		status = MOORING_EXPIRED;
	else if (m->config->command != NULL)
		status = m->config->command(m->config->context, &command);
	m->result_status = (uint8_t)status;
	return true;
}

/* frame handles the whole message in m->rx. False: later. */
static bool frame(struct mooring *m)
{
	struct reader r = {m->rx, m->rx + m->link.message, 0, 0};
	uint32_t fault = 4200, type;
	open_array(&r);
	type = small(&r, REQUIRED, 127);
	if (!r.bad && type >= 32)
		return true;
	const uint8_t *from = r.at;
	uint32_t left = r.left;
	while (r.left > 0 && !r.bad) /* first, whether it is whole */
		skip(&r);
	if (r.at != r.end)
		r.bad = true;
	r.at = from;
	r.left = left;
	if (!r.bad) {
		if (type == 17) {
			acked(m, &r);
		} else if (type == 16) {
			told_time(m, &r);
			skip(&r); /* session */
			parameters(m, &r);
			m->welcomed = true;
		} else if (type == 19) {
			noticed(m, &r);
		} else if (type == 18) {
			if (!commanded(m, &r))
				return false;
		} else if (type != 20) {
			fault = 4203;
			r.bad = true;
		}
	}
	if (r.bad && m->state == CONNECTED)
		leave(m, fault, 4001); /* the server's fault: class R */
	return true;
}

/* --- WebSocket in -------------------------------------------------------------------- */

/* take_in has the transport read until got are length bytes; false: not yet. */
static bool take_in(struct mooring *m, uint8_t *to, uint32_t got, uint32_t length, uint16_t *count)
{
	while (got < length) {
		int more = m->config->recv(m->config->context, to + got, MESSAGES(m) ? MOORING_RX : length - got);
		if (more < 0)
			broke(m, more);
		if (more <= 0)
			return false;
		got += (uint32_t)more;
		*count = (uint16_t)got;
		m->link.heard = (uint32_t)m->now;
	}
	return true;
}

#if MOORING_WEBSOCKET

/* payload_length of the frame whose head is there; ABSENT and left: at fault. */
static uint32_t payload_length(struct mooring *m)
{
	uint8_t *h = m->link.head;
	uint32_t opcode = h[0] & 15, length = h[1], fault = 1002;
	if (length == 126)
		length = (uint32_t)(h[2] << 8 | h[3]);
	bool control = opcode >= CLOSE;
	if ((h[0] & 0x70) == 0 && h[1] < 128 &&
	    (control ? opcode <= PONG && h[0] >= 128 && length <= 125
		     : opcode <= BINARY && (opcode == 0) == m->link.in_message)) {
		if (opcode == TEXT)
			fault = 4204;
		else if (h[1] == 127 || length + m->link.message > MOORING_RX)
			fault = 1009;
		else
			return length;
	}
	leave(m, fault, 4001);
	return UINT32_MAX;
}

/* control handles a Ping, Pong or Close behind the message so far. False: later. */
static bool control(struct mooring *m, uint32_t length)
{
	const uint8_t *payload = m->rx + m->link.message;
	uint32_t opcode = m->link.head[0] & 15;
	if (opcode == PING) {
		if (length == 0) {
			m->link.pong = true;
		} else if (sending(m)) {
			return false;
		} else {
			memcpy(m->frame + WS_HEAD, payload, length);
			message(m, PONG, length);
		}
	} else if (opcode == CLOSE) {
		uint32_t code = length >= 2 ? (uint32_t)(payload[0] << 8 | payload[1]) : 1005;
		leave(m, code == 1005 ? 1000 : code, code < 1000 ? 1002 : code);
	}
	return true;
}

#endif

/* receive takes what is there, at most one frame. False: nothing, or it has to
 * wait until something was sent. */
static bool receive(struct mooring *m)
{
	if (MESSAGES(m)) {
		if (!m->link.held && !take_in(m, m->rx, 0, 1, &m->link.message))
			return false;
		m->link.held = !frame(m);
		return !m->link.held;
	}
#if MOORING_WEBSOCKET
	uint8_t *h = m->link.head;
	if (!take_in(m, h, m->link.head_got, 2, &m->link.head_got) ||
	    ((h[1] & 0x7f) == 126 && !take_in(m, h, m->link.head_got, 4, &m->link.head_got)))
		return false;
	uint32_t length = payload_length(m);
	if (m->state != CONNECTED || !take_in(m, m->rx + m->link.message, m->link.got, length, &m->link.got))
		return false;
	if (h[0] & 8) {
		if (!control(m, length))
			return false;
	} else {
		uint32_t before = m->link.message;
		m->link.message = (uint16_t)(before + length);
		if (h[0] >= 128) {
			if (!frame(m)) {
				m->link.message = (uint16_t)before;
				return false;
			}
			m->link.message = 0;
		}
		m->link.in_message = h[0] < 128;
	}
	m->link.head_got = m->link.got = 0;
	return true;
#endif
}

static void connected(struct mooring *m)
{
	m->state = CONNECTED;
	m->connects++;
	m->opened = m->link.heard = m->pinged = (uint32_t)m->now;
	m->link.message = 0;
	m->link.window = 4; /* before WELCOME, PROTOCOL 8.2 */
}

#if MOORING_WEBSOCKET

/* --- The handshake, RFC 6455 4.1 ------------------------------------------------------- */

static void base64(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	for (uint32_t at = 0; at < bytes; at += 3) {
		uint32_t left = bytes - at;
		uint32_t three = (uint32_t)from[at] << 16;
		if (left > 1)
			three |= (uint32_t)from[at + 1] << 8;
		if (left > 2)
			three |= from[at + 2];
		for (uint32_t i = 0; i < 4; i++, three <<= 6) {
			uint32_t six = three >> 18 & 63;
			*to++ = (uint8_t)(i > left	? '='
					  : six < 26 ? 'A' + six
					  : six < 52 ? 'a' + six - 26
					  : six < 62 ? '0' + six - 52
					  : six == 62 ? '+'
						     : '/');
		}
	}
}

static uint32_t rotated(uint32_t word, uint32_t by) { return word << by | word >> (32 - by); }

static void sha1_block(uint32_t h[5], uint32_t w[16])
{
	uint32_t s[5];
	memcpy(s, h, sizeof s);
	for (uint32_t i = 0; i < 80; i++) {
		uint32_t f, k;
		if (i >= 16)
			w[i & 15] = rotated(w[(i + 13) & 15] ^ w[(i + 8) & 15] ^ w[(i + 2) & 15] ^ w[i & 15], 1);
		if (i < 20)
			f = (s[1] & s[2]) | (~s[1] & s[3]), k = 0x5a827999;
		else if (i < 40)
			f = s[1] ^ s[2] ^ s[3], k = 0x6ed9eba1;
		else if (i < 60)
			f = (s[1] & s[2]) | (s[1] & s[3]) | (s[2] & s[3]), k = 0x8f1bbcdc;
		else
			f = s[1] ^ s[2] ^ s[3], k = 0xca62c1d6;
		uint32_t next = rotated(s[0], 5) + f + s[4] + k + w[i & 15];
		s[4] = s[3];
		s[3] = s[2];
		s[2] = rotated(s[1], 30);
		s[1] = s[0];
		s[0] = next;
	}
	for (uint32_t i = 0; i < 5; i++)
		h[i] += s[i];
}

/* acceptance is base64(SHA-1(key, GUID)), which are 28 bytes, of a key of 24. */
static void acceptance(uint8_t *to, const uint8_t *key)
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[16];
	uint8_t text[64] = {0};
	memcpy(text, key, 24);
	memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11\x80", 37);
	for (uint32_t i = 0; i < 16; i++)
		w[i] = (uint32_t)get_be(text + 4 * i, 4);
	sha1_block(h, w);
	memset(w, 0, sizeof w);
	w[15] = 60 * 8;
	sha1_block(h, w);
	for (uint32_t i = 0; i < 5; i++)
		put_be(text + 4 * i, 4, h[i]);
	base64(to, text, 20);
}

static void put_text(struct writer *w, const char *text) { put(w, text, (uint32_t)strlen(text)); }

/* request writes the handshake into the frame memory; 0: it does not fit. While
 * the answer comes, m->rx holds the acceptance and, behind it, a line. */
static uint32_t request(struct mooring *m)
{
	const struct mooring_config *config = m->config;
	struct writer w = {m->frame, m->frame + m->frame_size};
	uint8_t nonce[16], key[24];
	for (uint32_t i = 0; i < 16; i += 4)
		put_be(nonce + i, 4, config->random(config->context));
	base64(key, nonce, 16);
	acceptance(m->rx, key);
	put_text(&w, "GET ");
	put_text(&w, config->path);
	put_text(&w, " HTTP/1.1\r\nHost: ");
	put_text(&w, config->host);
	put_text(&w, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mooring.v1\r\n"
		     "Sec-WebSocket-Key: ");
	put(&w, key, 24);
	put_text(&w, "\r\nAuthorization: Bearer ");
	put_text(&w, config->token);
	put_text(&w, "\r\n\r\n");
	return w.at == NULL ? 0 : (uint32_t)(w.at - m->frame);
}

/* after gives what follows a header's name (in lower case, with the colon), or NULL. */
static const uint8_t *after(const uint8_t *line, const char *name)
{
	for (; *name != 0; name++, line++) {
		uint8_t c = *line;
		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		if (c != (uint8_t)*name)
			return NULL;
	}
	while (*line == ' ')
		line++;
	return line;
}

static uint32_t decimal(const uint8_t *text)
{
	uint32_t value = 0;
	while (*text >= '0' && *text <= '9' && value < DAY_MS / 1000)
		value = 10 * value + *text++ - '0';
	return value;
}

/* response reads the answer's header, byte by byte, so that nothing of what
 * follows is taken. link.message is the length of the line so far, which ends in
 * a 0; of a line that is too long the rest is dropped. */
static void response(struct mooring *m)
{
	uint8_t *line = m->rx + 28, byte;
	int got = 0;
	for (uint32_t most = 0; most < 1024; most++) {
		got = m->config->recv(m->config->context, &byte, 1);
		if (got <= 0)
			break;
		if (byte != '\n') {
			if (byte != '\r' && m->link.message < MOORING_RX - 29)
				line[m->link.message++] = byte;
			continue;
		}
		line[m->link.message] = 0;
		const uint8_t *value;
		if (m->link.message == 0) {
			if (m->link.status == 101 && m->link.accepted)
				connected(m);
			else
				ended(m, m->link.status, 0);
			return;
		}
		m->link.message = 0;
		if (m->link.status == 0) {
			value = after(line, "http/1.1 ");
			m->link.status = value == NULL ? 0 : (uint16_t)decimal(value);
			if (m->link.status < 100 || m->link.status > 599) {
				ended(m, 0, 0);
				return;
			}
		} else if ((value = after(line, "sec-websocket-accept:")) != NULL) {
			m->link.accepted = memcmp(value, m->rx, 28) == 0 && value[28] == 0;
		} else if ((value = after(line, "retry-after:")) != NULL) {
			m->asked.retry_after = decimal(value) * 1000;
		}
	}
	if (got < 0)
		broke(m, got);
}

#endif

/* --- Frames of the device ------------------------------------------------------------------ */

static struct writer begin(const struct mooring *m, uint32_t head_byte, uint32_t type)
{
	struct writer w = {m->frame + WS_HEAD, m->frame + m->frame_size};
	put_byte(&w, head_byte);
	put_byte(&w, type);
	return w;
}

static uint32_t length_of(const struct mooring *m, const struct writer *w)
{
	return w->at == NULL ? UINT32_MAX : (uint32_t)(w->at - m->frame - WS_HEAD);
}

static void hello(struct mooring *m)
{
	struct writer w = begin(m, 0x96, 1);
	put_fixed(&w, 0xce, m->boot, 4);
	put_fixed(&w, 0xcd, m->config->heartbeat, 2);
	put_fixed(&w, 0xcd, MOORING_RX, 2);
	put_string(&w, m->config->model);
	put_string(&w, m->config->firmware);
	message(m, BINARY, length_of(m, &w));
}

/* layout writes a LAYOUT and gives its length; UINT32_MAX: it does not fit. */
static uint32_t layout(struct mooring *m, uint32_t index)
{
	const struct mooring_layout *l = &m->config->layouts[index];
	struct writer w = begin(m, 0x94, 2);
	put_byte(&w, index);
	put_string(&w, l->name);
	put_fixed(&w, 0xdc, l->count, 2);
	for (uint32_t i = 0; i < l->count; i++) {
		const struct mooring_channel *c = &l->channels[i];
		put_byte(&w, 0x94);
		put_string(&w, c->name);
		put_string(&w, c->unit);
		put_byte(&w, c->kind);
		put_int(&w, c->exp10);
	}
	return length_of(m, &w);
}

/* fill writes DATA from the send cursor and moves that behind it; UINT32_MAX:
 * not even one record fits. full says that no more would have. */
OUT_OF_LINE static uint32_t fill(struct mooring *m, uint32_t limit, uint32_t *cursor, uint32_t *sent, uint32_t *full)
{
	uint8_t *first = at(m, cursor);
	uint64_t time = time_of(first);
	uint32_t form = form_of(first), body = body_of(first), n = rows_of(first);
	struct writer w = begin(m, 0x97, 3);
	w.end = m->frame + WS_HEAD + limit;
	put_int(&w, (int64_t)(m->head_seq + *sent));
	uint8_t *count = w.at; /* filled in below, as the head of the values is */
	put_fixed(&w, 0xcd, n, 2);
	put_int(&w, (int64_t)time);
	put_byte(&w, first[2] & 15u);
	*full = 1;
	if (form != ROW) {
		const uint8_t *values = first + MOORING_BLOCK_HEAD;
		body -= MOORING_BLOCK_HEAD - HEAD;
		put_fixed(&w, 0xce, (uint32_t)get_be(first + HEAD + 2, 4), 4);
		if (form == REGULAR) {
			n *= m->config->layouts[first[2] & 15].count;
			put_fixed(&w, 0xdc, n, 2);
		} else {
			put_fixed(&w, 0xc8, body, 2);
			put_byte(&w, form);
		}
		put(&w, values, body);
		if (w.at != NULL)
			*sent += pass(m, cursor);
		return length_of(m, &w);
	}
	put_byte(&w, 0);
	uint8_t *elements = w.at;
	put_fixed(&w, 0xdc, 0, 2);
	uint32_t width = m->config->layouts[first[2] & 15].count + 1u;
	for (n = 0; n < 4096 && (n + 1) * width <= UINT16_MAX; n++) {
		uint8_t *row = NULL;
		if (*sent >= m->waiting) {
			*full = 0;
			break;
		}
		row = at(m, cursor);
		if (row[2] != first[2] || (time_of(row) & BY_TICK) != 0)
			break;
		struct writer before = w;
		put_int(&w, (int64_t)(time_of(row) - time));
		put(&w, row + HEAD, body_of(row));
		if (w.at == NULL) {
			if (n == 0)
				return UINT32_MAX;
			w = before;
			break;
		}
		time = time_of(row);
		*sent += pass(m, cursor);
	}
	put_be(count + 1, 2, n);
	put_be(elements + 1, 2, n * width);
	return length_of(m, &w);
}

/* data sends what the window, a THROTTLE and lingering allow. wait is shortened
 * to when it wants to look again. */
static bool data(struct mooring *m, uint32_t *wait)
{
	uint32_t limit = m->frame_size - WS_HEAD;
	if (limit > m->max_frame)
		limit = m->max_frame;
	uint8_t *next;
	for (;;) {
		if (m->sent >= m->waiting) {
			m->flush = false;
			return false;
		}
		next = at(m, &m->send);
		if (form_of(next) != GAP)
			break;
		m->sent += pass(m, &m->send);
	}
	uint32_t bit = 1u << (next[2] & 15), length;
	if ((time_of(next) & BY_TICK) != 0 || m->link.flights >= MOORING_WINDOW || m->link.flights >= m->link.window)
		return false;
	uint32_t quiet = since(m, m->data_at), pause = 0;
	if (m->asked.gap > quiet && !due(m, m->asked.gap_until))
		pause = m->asked.gap - quiet;
	if ((m->link.rejected & bit) == 0 && pause == 0) {
		if ((m->link.declared & bit) == 0) {
			length = layout(m, next[2] & 15);
			if (length <= limit) {
				m->link.declared |= (uint16_t)bit;
				message(m, BINARY, length);
				return true;
			}
		} else {
			uint32_t cursor = m->send;
			uint32_t sent = m->sent;
			uint32_t full; /* a word, as reader.bad is */
			length = fill(m, limit, &cursor, &sent, &full);
			if (!full && !m->flush && quiet < m->config->linger_ms) {
				pause = m->config->linger_ms - quiet;
			} else if (length != UINT32_MAX) {
				m->send = cursor;
				m->sent = sent;
				m->data_at = (uint32_t)m->now;
				m->flight[m->link.flights++] = (uint32_t)m->head_seq + sent;
				message(m, BINARY, length);
				return true;
			}
		}
	}
	if (pause > 0) {
		if (pause < *wait)
			*wait = pause;
		return false;
	}
	/* No frame can hold it, or nobody wants it: the oldest can be given up. What
	 * the server takes is known from WELCOME on. */
	if (!m->welcomed || m->sent > 0)
		return false;
	drop_oldest(m);
	return true;
}

/* compose writes the next message, if there is one. */
static bool compose(struct mooring *m, uint32_t *wait)
{
	if (!m->link.hello) {
		m->link.hello = true;
		hello(m);
		return true;
	}
	if (m->link.pong) {
		m->link.pong = false;
		message(m, PONG, 0);
		return true;
	}
	if (m->result_waits) {
		struct writer w = begin(m, 0x93, 4);
		m->result_waits = false;
		put_wide(&w, 8, m->result_id, 0xcf);
		put_fixed(&w, 0xcc, m->result_status, 1);
		message(m, BINARY, length_of(m, &w));
		return true;
	}
	if (m->link.goaway != 0) {
		if (due(m, m->asked.until) || (m->link.graceful && m->link.flights == 0))
			leave(m, 1000, m->link.goaway);
		else if (*wait > m->asked.until - (uint32_t)m->now)
			*wait = m->asked.until - (uint32_t)m->now;
		return false;
	}
	/* Behind a transport that hides the server's Pings, ours show that it lives. */
	uint32_t beat = m->heartbeat * 1000u;
	if (MESSAGES(m) && since(m, m->link.heard) >= beat && since(m, m->pinged) >= beat) {
		struct writer w = begin(m, 0x91, 5);
		m->pinged = (uint32_t)m->now;
		message(m, BINARY, length_of(m, &w));
		return true;
	}
	return data(m, wait);
}

/* --- The interface ------------------------------------------------------------------------ */

bool mooring_init(struct mooring *m, const struct mooring_config *config, void *memory, uint32_t size, uint16_t frame_size, uint32_t tick)
{
	memset(m, 0, sizeof *m);
	if (frame_size < MOORING_FRAME_MIN || size < frame_size + 64u)
		return false;
	m->config = config;
	m->frame = memory;
	m->frame_size = frame_size;
	m->ring = m->frame + frame_size;
	m->size = size - frame_size;
	m->now = m->wake = tick;
	m->data_at = tick - config->linger_ms;
	m->heartbeat = 30;
	m->spread = 5;
	m->max_frame = 256; /* what every server takes, until WELCOME says more */
	m->boot = config->random(config->context) | 1;
	m->hold = UINT32_MAX;
	for (uint32_t i = 0; i < config->layout_count; i++)
		if (layout(m, i) == UINT32_MAX)
			return false;
#if MOORING_WEBSOCKET
	if (!config->messages && request(m) == 0)
		return false;
#endif
	return config->layout_count <= 16;
}

/* work does everything on an open connection; wait is shortened to when there
 * will be more to do. The bound lets the caller's other work go on. */
static void work(struct mooring *m, uint32_t *wait)
{
	uint32_t dead = 2000u * m->heartbeat; /* PROTOCOL 8.4.2 */
	for (uint32_t turns = 0; m->state == CONNECTED; turns++) {
		if (turns == 64) {
			*wait = 0;
			return;
		}
		bool moved = flush(m) && receive(m);
		if (m->state == CONNECTED && !sending(m) && compose(m, wait))
			moved = true;
		if (!moved)
			break;
	}
	if (m->state != CONNECTED)
		return;
	uint32_t quiet = since(m, m->link.heard);
	if (quiet >= dead)
		leave(m, 1000, 0);
	else if (*wait > dead - quiet)
		*wait = dead - quiet;
	if (MESSAGES(m) && *wait > dead / 2)
		*wait = dead / 2;
}

uint32_t mooring_poll(struct mooring *m, uint32_t tick)
{
	const struct mooring_config *config = m->config;
	uint32_t wait = UINT32_MAX;
	m->now += tick - (uint32_t)m->now;
	if (m->state == IDLE && due(m, m->wake)) {
		memset(&m->link, 0, sizeof m->link);
		memset(&m->asked, 0, sizeof m->asked);
		m->state = OPENING;
		m->opened = (uint32_t)m->now;
	}
	if (m->state == OPENING) {
		int result = config->open(config->context);
		if (result < 0) {
			broke(m, result);
		} else if (result > 0 && MESSAGES(m)) {
			connected(m);
#if MOORING_WEBSOCKET
		} else if (result > 0) {
			m->state = UPGRADING;
			m->link.pending = (uint16_t)request(m);
#endif
		}
	}
#if MOORING_WEBSOCKET
	if (m->state == UPGRADING && flush(m))
		response(m);
#endif
	if ((m->state == OPENING || m->state == UPGRADING)) {
		wait = 20;
		if (since(m, m->opened) >= CONNECT_MS)
			ended(m, 0, 0);
	}
	if (m->state == CONNECTED)
		work(m, &wait);
	if (m->state == IDLE)
		wait = due(m, m->wake) ? 0 : m->wake - (uint32_t)m->now;
	return wait;
}

/* append adds a record. data is n times the layout's values, or as many numbers. */
static bool append(struct mooring *m, uint32_t kind, uint64_t time, uint32_t n, uint32_t step, const void *data)
{
	const struct mooring_value *values = data;
	static const uint8_t widths[] = {5, 5, 2, 4, 4}; /* of a value, at most: what is not needed is not taken */
	uint32_t form = kind >> 4, index = kind & 15, count = 0, length = m->size + 1; /* more than there is */
	uint32_t head = form == ROW ? HEAD : MOORING_BLOCK_HEAD;
	if (form < sizeof widths && index < m->config->layout_count)
		count = n * m->config->layouts[index].count;
	if (count > 0) {
		uint32_t most = head + widths[form] * count;
		for (uint32_t i = 0; i < count && form <= REGULAR; i++)
			if (values[i].type == 4)
				most += (uint32_t)strlen(values[i].as.text);
		if (most + 48 <= m->frame_size) /* else no frame could hold it */
			length = most;
	}
	uint8_t *to = reserve(m, length, n);
	if (to == NULL)
		return false;
	to[2] = (uint8_t)kind;
	put_be(to + 3, 6, time != MOORING_NOW ? time & ~BY_TICK : m->clock ? m->now + m->offset : m->now | BY_TICK);
	if (form != ROW) {
		put_be(to + HEAD, 2, n);
		put_be(to + HEAD + 2, 4, step);
	}
	struct writer w = {to + head, to + length};
	if (form <= REGULAR) {
		while (count-- > 0)
			put_value(&w, values++);
	} else {
		put(&w, data, length - head);
	}
	put_be(to, 2, (uint32_t)(w.at - to) - HEAD);
	added(m, to);
	return true;
}

bool mooring_append(struct mooring *m, uint8_t index, uint64_t time, const struct mooring_value *values)
{
	return append(m, index & 15, time, 1, 0, values);
}

bool mooring_append_regular(struct mooring *m, uint8_t index, uint64_t time, uint32_t step_us,
			    uint16_t n, const struct mooring_value *values)
{
	return append(m, index | REGULAR << 4, time, n, step_us, values);
}

bool mooring_append_packed(struct mooring *m, uint8_t index, uint64_t time, uint32_t step_us,
			   uint16_t n, uint8_t type, const void *numbers)
{
	return append(m, (uint32_t)(index | type << 4), time, n, step_us, numbers);
}

void mooring_flush(struct mooring *m) { m->flush = true; }

uint64_t mooring_waiting(const struct mooring *m) { return m->waiting; }

uint64_t mooring_time(const struct mooring *m) { return m->clock ? m->now + m->offset : 0; }

void mooring_set_time(struct mooring *m, uint64_t time)
{
	m->own_clock = true;
	learn(m, time);
}

bool mooring_result(struct mooring *m, uint64_t id, uint8_t status)
{
	if (m->result_waits)
		return false;
	m->result_waits = true;
	m->result_id = id;
	m->result_status = status;
	return true;
}

void mooring_stop(struct mooring *m)
{
	if (m->state != IDLE && m->state != STOPPED)
		leave(m, 1000, 1000);
	m->state = STOPPED;
}

void mooring_start(struct mooring *m)
{
	m->state = IDLE;
	m->wake = (uint32_t)m->now;
}

bool mooring_restore(struct mooring *m, uint64_t seq, const uint8_t *record, uint16_t length)
{
	uint64_t next = m->head_seq + m->waiting;
	if (m->records == 0)
		m->head_seq = next = seq;
	if (seq < next)
		return false;
	m->gap = (uint32_t)(seq - next);
	if (record == NULL)
		return true;
	if (length < HEAD + 1 || length != HEAD + body_of(record) || form_of(record) >= GAP ||
	    (record[2] & 15) >= m->config->layout_count)
		return false; /* memory that was not what keep was given */
	uint8_t *to = reserve(m, length, 0);
	if (to == NULL)
		return false;
	memcpy(to, record, length);
	added(m, to);
	return true;
}
