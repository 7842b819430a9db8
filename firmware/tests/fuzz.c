/* Fuzz targets, for clang -fsanitize=fuzzer; WHAT chooses one. Each gives bytes
 * of an attacker, in pieces, to one parser of the client and then polls it on,
 * through reconnects, while rows come. */
#include "server.h"

enum { HANDSHAKE, STREAM, FRAMES, MESSAGES_, RESTORE };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	if (length < 2 || length > 4096)
		return 0;
	begin_test(64 + bytes[0] * 4u);
	t.piece = bytes[1] & 7;
	config.drop_oldest = bytes[1] & 8;
	bytes += 2;
	length -= 2;
	if (WHAT == RESTORE) {
		while (length > 2) {
			size_t take = bytes[0] % 64 < length - 1 ? bytes[0] % 64u : length - 1;
			uint8_t record[64];
			memcpy(record, bytes + 1, take);
			if (take >= 3)
				record[1] = 0, record[0] = (uint8_t)(take > HEAD ? take - HEAD : 0);
			mooring_restore(&t.m, t.m.head_seq + t.m.waiting + bytes[0] / 64, record, (uint16_t)take);
			bytes += 1 + take;
			length -= 1 + take;
		}
		row(1);
		mooring_append(&t.m, 1, MOORING_NOW, &(struct mooring_value){.type = 0xca});
		for (int i = 0; i < 10; i++)
			mooring_poll(&t.m, t.tick += 10);
		t.out_end = 0;
		connected(&t.m);
		welcome();
		for (int i = 0; i < 10; i++)
			mooring_poll(&t.m, t.tick += 10);
		return 0;
	}
	for (int i = 0; i < 5; i++)
		row(i);
	if (WHAT == HANDSHAKE) {
		mooring_poll(&t.m, t.tick);
		feed(bytes, length);
		for (int i = 0; i < 20; i++)
			mooring_poll(&t.m, t.tick += 10);
		return 0;
	}
	t.piece = 0;
	settle();
	t.piece = bytes[-1] & 7;
	config.messages = WHAT == MESSAGES_; /* built with MOORING_MESSAGES=1 */
	if (WHAT == STREAM) {
		feed(bytes, length);
	} else { /* pieces, each as the payload of a message */
		while (length > 0) {
			size_t take = bytes[0] < length ? bytes[0] : length - 1;
			if (WHAT == FRAMES) {
				feed_ws(0x82, bytes + 1, take);
			} else {
				feed(bytes + 1, take);
				mooring_poll(&t.m, t.tick);
			}
			bytes += 1 + take;
			length -= 1 + take;
		}
	}
	for (int i = 0; i < 30; i++) {
		row(i);
		mooring_poll(&t.m, t.tick += 100);
		assert(t.m.link.flights <= MOORING_WINDOW);
	}
	return 0;
}
