/* A row of temperature and battery a minute. See ../README.md. */
#include <errno.h>
#include <zephyr/kernel.h>
#include <zephyr/net/socket.h>
#include <zephyr/net/tls_credentials.h>
#include <zephyr/random/random.h>

#include "mooring.h"

#define SERVER "example.org"
#define PORT "443"
#define TAG 1 /* of the certificate authority */

static int line = -1;

static int line_open(void *context)
{
	struct zsock_addrinfo hints = {.ai_socktype = SOCK_STREAM}, *address;
	if (zsock_getaddrinfo(SERVER, PORT, &hints, &address) != 0)
		return -1;
	sec_tag_t tags[] = {TAG};
	line = zsock_socket(address->ai_family, SOCK_STREAM, IPPROTO_TLS_1_2);
	bool well = line >= 0 && zsock_setsockopt(line, SOL_TLS, TLS_SEC_TAG_LIST, tags, sizeof tags) == 0 &&
		    zsock_setsockopt(line, SOL_TLS, TLS_HOSTNAME, SERVER, sizeof SERVER) == 0 &&
		    zsock_connect(line, address->ai_addr, address->ai_addrlen) == 0;
	zsock_freeaddrinfo(address);
	return well ? 1 : -1;
}

static int line_send(void *context, const uint8_t *bytes, size_t length)
{
	ssize_t sent = zsock_send(line, bytes, length, ZSOCK_MSG_DONTWAIT);
	return sent < 0 ? (errno == EAGAIN ? 0 : -1) : (int)sent;
}

static int line_recv(void *context, uint8_t *bytes, size_t length)
{
	ssize_t got = zsock_recv(line, bytes, length, ZSOCK_MSG_DONTWAIT);
	return got < 0 ? (errno == EAGAIN ? 0 : -1) : got == 0 ? -1 : (int)got;
}

static void line_close(void *context, uint16_t code)
{
	if (line >= 0)
		zsock_close(line);
	line = -1;
}

static uint32_t line_random(void *context) { return sys_rand32_get(); }

static const struct mooring_channel air[] = {{"temperature", "°C", MOORING_NUMBER, -1}, {"battery", "V", MOORING_NUMBER, -3}};
static const struct mooring_layout layouts[] = {{"air", air, 2}};
static const struct mooring_config config = {
	.host = SERVER, .path = "/v1/stream", .token = "the device's token", .model = "zephyr",
	.layouts = layouts, .layout_count = 1, .drop_oldest = true,
	.open = line_open, .send = line_send, .recv = line_recv, .close = line_close, .random = line_random,
};

int main(void)
{
	static struct mooring m;
	static uint8_t memory[16 * 1024];
	mooring_init(&m, &config, memory, sizeof memory, 1024, k_uptime_get_32());
	for (uint32_t due = k_uptime_get_32();;) {
		if ((int32_t)(k_uptime_get_32() - due) >= 0) {
			struct mooring_value values[] = {mooring_int(215), mooring_int(3712)}; /* your sensors */
			mooring_append(&m, 0, MOORING_NOW, values);
			due += 60000;
		}
		uint32_t wait = mooring_poll(&m, k_uptime_get_32());
		int32_t left = (int32_t)(due - k_uptime_get_32());
		if (left >= 0 && wait > (uint32_t)left)
			wait = (uint32_t)left;
		struct zsock_pollfd ready = {.fd = line, .events = ZSOCK_POLLIN};
		if (line >= 0)
			zsock_poll(&ready, 1, (int)MIN(wait, 1000));
		else
			k_msleep((int32_t)MIN(wait, 1000));
	}
}
