/* A row of temperature and battery a minute. See ../README.md. */
#include <errno.h>
#include <zephyr/kernel.h>
#include <zephyr/net/socket.h>
#include <zephyr/net/tls_credentials.h>
#if __has_include(<zephyr/random/random.h>)
#include <zephyr/random/random.h>
#else /* before Zephyr 3.5 */
#include <zephyr/random/rand32.h>
#endif
#include <zephyr/sys/printk.h>

#include "mooring.h"

static int line = -1;

#ifdef CONFIG_MOORING_TLS
#define TAG 1 /* of the certificate authority */
#define PROTOCOL IPPROTO_TLS_1_2

static const uint8_t authority[] = {
#include "ca.der.inc"
};

static bool secured(int socket)
{
	static const sec_tag_t tags[] = {TAG};
	return zsock_setsockopt(socket, SOL_TLS, TLS_SEC_TAG_LIST, tags, sizeof tags) == 0 &&
	       zsock_setsockopt(socket, SOL_TLS, TLS_HOSTNAME, CONFIG_MOORING_HOST, sizeof CONFIG_MOORING_HOST) == 0;
}
#else
#define PROTOCOL IPPROTO_TCP

static bool secured(int socket) { return true; }
#endif

/* line_open waits for the connection and its handshake, some seconds at most. What
 * it leaves open after a failure, line_close closes. */
static int line_open(void *context)
{
	struct zsock_addrinfo hints = {.ai_socktype = SOCK_STREAM}, *address;
	if (zsock_getaddrinfo(CONFIG_MOORING_HOST, CONFIG_MOORING_PORT, &hints, &address) != 0)
		return -1;
	line = zsock_socket(address->ai_family, SOCK_STREAM, PROTOCOL);
	bool well = line >= 0 && secured(line) && zsock_connect(line, address->ai_addr, address->ai_addrlen) == 0;
	if (!well)
		printk("no connection: errno %d\n", errno);
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
	.host = CONFIG_MOORING_HOST, .path = "/v1/stream", .token = CONFIG_MOORING_TOKEN, .model = "zephyr",
	.layouts = layouts, .layout_count = 1, .drop_oldest = true,
	.open = line_open, .send = line_send, .recv = line_recv, .close = line_close, .random = line_random,
};

int main(void)
{
	static struct mooring m;
	static uint8_t memory[16 * 1024];
#ifdef CONFIG_MOORING_TLS
	if (tls_credential_add(TAG, TLS_CREDENTIAL_CA_CERTIFICATE, authority, sizeof authority) != 0)
		printk("the certificate authority is not taken\n");
#endif
	if (!mooring_init(&m, &config, memory, sizeof memory, 1024, k_uptime_get_32())) {
		printk("a token that long needs a larger frame\n");
		return 0;
	}
	uint8_t state = m.state;
	for (uint32_t due = k_uptime_get_32();;) {
		if ((int32_t)(k_uptime_get_32() - due) >= 0) {
			struct mooring_value values[] = {mooring_int(215), mooring_int(3712)}; /* your sensors */
			mooring_append(&m, 0, MOORING_NOW, values);
			due += CONFIG_MOORING_EVERY_MS;
		}
		uint32_t wait = mooring_poll(&m, k_uptime_get_32());
		if (m.state != state && (m.state == 0 || m.state == 3))
			printk(m.state == 3 ? "connected; %u rows wait\n" : "away; %u rows wait; last ended %u\n",
			       (unsigned int)mooring_waiting(&m), m.ended);
		state = m.state;
		int32_t left = (int32_t)(due - k_uptime_get_32());
		if (wait > (uint32_t)MAX(left, 0))
			wait = (uint32_t)MAX(left, 0);
		struct zsock_pollfd ready = {.fd = line, .events = ZSOCK_POLLIN};
		if (line >= 0)
			zsock_poll(&ready, 1, (int)MIN(wait, 1000));
		else
			k_msleep((int32_t)MIN(wait, 1000));
	}
}
