/* Rows that fleet verify can judge: what a row holds, and when it was, is a
 * function of its number (docs/decisions/063), and a ledger says how far the
 * device got. It computes what cmd/internal/fleet/plan.go does, for a device
 * without float64: numbers that are not integers are rounded to float. */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdio.h>
#include <time.h>

#include "../mooring.h"

#define MOST_CHANNELS 7

struct ledger {
	FILE *file;
	uint64_t seed;
	uint32_t run;	   /* below 2^21: a row's origin, 1024 times that, is an int32_t */
	uint32_t channels; /* 7, or 1: the origin alone, which is sent packed */
	uint64_t base;	   /* ms since 1970 of row 0 */
	uint32_t period;   /* ms between rows */
	uint64_t sent, acked;
};

static const struct mooring_channel fleet_channels[] = {
	{"origin", NULL, MOORING_NUMBER, 0},	 {"temperature", "\xc2\xb0""C", MOORING_NUMBER, 0},
	{"pressure", "hPa", MOORING_NUMBER, -2}, {"humidity", "%", MOORING_NUMBER, 0},
	{"voltage", "V", MOORING_NUMBER, 0},	 {"valve", NULL, MOORING_BOOLEAN, 0},
	{"state", NULL, MOORING_STRING, 0},
};
static const struct mooring_layout fleet_layouts[] = {{"fleet", fleet_channels, MOST_CHANNELS}, {"fleet", fleet_channels, 1}};

/* --- What a row holds --- */

#define SALT UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static int32_t origin_of(const struct ledger *l) { return (int32_t)(l->run * 1024); }
static uint64_t row_time(const struct ledger *l, uint64_t seq) { return l->base + seq * l->period; }

static struct mooring_value measured(const struct ledger *l, uint64_t seq, uint32_t channel)
{
	static const double center[] = {21, 1013, 48, 3.3}, amplitude[] = {6, 12, 20, 0.2};
	static const char *const states[] = {"idle", "heating", "cooling", "h\xc3\xb6here Gewalt", "", "fault: no flow"};
	uint64_t random = mix(mix(l->seed ^ mix(SALT) ^ mix(seq)) + channel * SALT);
	if (channel == 5)
		return mooring_bool(seq / 16 % 2 != 0);
	if (channel == 6)
		return mooring_text(states[random % 6]);
	if (channel == 4 && random % 31 == 0)
		return mooring_none();
	double phase = (double)(seq % 600) / 600 - 0.5;
	double wave = 4 * (phase < 0 ? -phase : phase) - 1;
	double noise = (double)(random >> 11) / 9007199254740992.0 - 0.5;
	double number = center[channel - 1] + amplitude[channel - 1] * (wave + noise / 10);
	return channel == 2 ? mooring_int((int32_t)(number * 100)) : mooring_float((float)number);
}

/* row_values gives the values of row seq, one for each of the 7 channels. */
static void row_values(const struct ledger *l, uint64_t seq, struct mooring_value *values)
{
	values[0] = mooring_int(origin_of(l));
	for (uint32_t channel = 1; channel < MOST_CHANNELS; channel++)
		values[channel] = measured(l, seq, channel);
}

/* --- The ledger, cmd/internal/fleet/ledger.go --- */

static void ledger_begin(struct ledger *l, const char *device, uint32_t boot_id)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	l->base = (uint64_t)now.tv_sec * 1000;
	fprintf(l->file, "{\"kind\":\"run\",\"version\":1,\"run\":%lu,\"seed\":%llu,\"channels\":%lu,\"float32\":true,\"devices\":1}\n",
		(unsigned long)l->run, (unsigned long long)l->seed, (unsigned long)l->channels);
	fprintf(l->file, "{\"kind\":\"boot\",\"device\":\"%s\",\"index\":0,\"boot\":0,\"boot_id\":%lu,\"base\":%llu,\"period_us\":%lu,\"coarse_ms\":0}\n",
		device, (unsigned long)boot_id, (unsigned long long)l->base, (unsigned long)l->period * 1000);
}

/* ledger_state says how far it got, and what else there is to say. It must be
 * called before a row can be sent, so that a device that is killed said it. */
static void ledger_state(const struct ledger *l, const char *else_)
{
	fprintf(l->file, "{\"kind\":\"state\",\"index\":0,\"boot\":0,\"sent\":%llu,\"acked\":%llu%s}\n",
		(unsigned long long)l->sent, (unsigned long long)l->acked, else_);
	fflush(l->file);
}

static void ledger_dropped(const struct ledger *l, uint64_t seq, uint64_t n)
{
	char text[80];
	snprintf(text, sizeof text, ",\"dropped\":[[%llu,%llu]]", (unsigned long long)seq, (unsigned long long)n);
	ledger_state(l, text);
}

static void ledger_refused(const struct ledger *l, uint64_t seq, uint32_t n, int channel, uint8_t code)
{
	char text[80];
	snprintf(text, sizeof text, ",\"refused\":[[%llu,%lu,%d,%u]]", (unsigned long long)seq, (unsigned long)n, channel, code);
	ledger_state(l, text);
}

/* ledger_polled notes what a poll did: the oldest row is another one since the ACKs
 * that came, or since the client gave rows up. */
static void ledger_polled(struct ledger *l, const struct mooring *m, uint64_t head, uint32_t lost)
{
	if (m->head_seq == head)
		return;
	if (m->lost != lost) {
		ledger_dropped(l, head, m->head_seq - head);
	} else {
		l->acked = m->head_seq;
		ledger_state(l, "");
	}
}

/* ledger_append makes the n rows from number on, with any function of the client
 * that is right for so many, and notes those that were given up for them. */
static void ledger_append(struct ledger *l, struct mooring *m, uint64_t number, uint32_t n)
{
	struct mooring_value values[8 * MOST_CHANNELS];
	int32_t numbers[8];
	uint64_t head = m->head_seq, time = row_time(l, number);
	uint32_t lost = m->lost;
	bool taken;
	l->sent = number + n;
	ledger_state(l, "");
	for (uint32_t i = 0; i < n; i++) {
		row_values(l, number + i, values + MOST_CHANNELS * i);
		numbers[i] = origin_of(l);
	}
	if (l->channels == 1)
		taken = n == 1 ? mooring_append(m, 1, time, values) : mooring_append_packed(m, 1, time, l->period * 1000, (uint16_t)n, 3, numbers);
	else
		taken = n == 1 ? mooring_append(m, 0, time, values) : mooring_append_regular(m, 0, time, l->period * 1000, (uint16_t)n, values);
	if (!taken)
		ledger_dropped(l, number, n);
	else if (m->lost != lost)
		ledger_dropped(l, head, m->head_seq - head);
}

#endif
