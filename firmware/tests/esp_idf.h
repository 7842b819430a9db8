/* What ports/esp-idf/main/main.c uses of ESP-IDF and of esp_websocket_client, as far
 * as a computer needs it to try that file alone. Each header that main.c names is
 * this one (firmware/checks). It is no substitute for a build with ESP-IDF. */
#ifndef ESP_IDF_H
#define ESP_IDF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CONFIG_MOORING_URL "wss://test/v1/stream"
#define CONFIG_MOORING_TOKEN "token"
#define CONFIG_MOORING_PERIOD_MS 60000
#define CONFIG_MBEDTLS_HAVE_TIME_DATE 1
#define WS_TRANSPORT_HEADER_CALLBACK_SUPPORT 1

enum { ESP_OK = 0, ESP_ERR_INVALID_SIZE = 0x104 };
typedef int esp_err_t;
#define ESP_ERROR_CHECK(x) assert((x) == ESP_OK)
#define pdMS_TO_TICKS(ms) (ms)

typedef const char *esp_event_base_t;
typedef void (*esp_event_handler_t)(void *context, esp_event_base_t base, int32_t event, void *data);
enum {
	WEBSOCKET_EVENT_ANY = -1, WEBSOCKET_EVENT_ERROR, WEBSOCKET_EVENT_HEADER_RECEIVED, WEBSOCKET_EVENT_CONNECTED,
	WEBSOCKET_EVENT_DISCONNECTED, WEBSOCKET_EVENT_DATA, WEBSOCKET_EVENT_CLOSED
};
enum { WS_TRANSPORT_OPCODES_CLOSE = 8 };
typedef struct fake_client *esp_websocket_client_handle_t;
typedef struct {
	const char *uri, *headers, *subprotocol;
	int buffer_size, network_timeout_ms;
	bool disable_auto_reconnect;
	esp_err_t (*crt_bundle_attach)(void *conf);
} esp_websocket_client_config_t;
typedef struct {
	const char *data_ptr;
	int data_len;
	bool fin;
	uint8_t op_code;
	int payload_len, payload_offset;
	struct {
		int esp_ws_handshake_status_code;
	} error_handle;
} esp_websocket_event_data_t;

esp_err_t esp_crt_bundle_attach(void *conf);
esp_websocket_client_handle_t esp_websocket_client_init(const esp_websocket_client_config_t *config);
esp_err_t esp_websocket_register_events(esp_websocket_client_handle_t, int event, esp_event_handler_t handler, void *context);
esp_err_t esp_websocket_client_start(esp_websocket_client_handle_t);
esp_err_t esp_websocket_client_destroy(esp_websocket_client_handle_t);
bool esp_websocket_client_is_connected(esp_websocket_client_handle_t);
int esp_websocket_client_send_bin(esp_websocket_client_handle_t, const char *data, int length, uint32_t ticks);
int esp_websocket_client_send_with_opcode(esp_websocket_client_handle_t, int opcode, const uint8_t *data, int length, uint32_t ticks);

typedef struct fake_buffer *MessageBufferHandle_t;
MessageBufferHandle_t xMessageBufferCreate(size_t size);
int xMessageBufferReset(MessageBufferHandle_t);
size_t xMessageBufferSend(MessageBufferHandle_t, const void *data, size_t length, uint32_t ticks);
size_t xMessageBufferReceive(MessageBufferHandle_t, void *data, size_t length, uint32_t ticks);

uint32_t esp_random(void);
int64_t esp_timer_get_time(void);
void vTaskDelay(uint32_t ticks);
int xTaskCreate(void (*task)(void *), const char *name, uint32_t stack, void *context, unsigned priority, void *handle);
#define time(to) fake_time(to)
time_t fake_time(time_t *to);
typedef struct {
	const char *server;
} esp_sntp_config_t;
#define ESP_NETIF_SNTP_DEFAULT_CONFIG(name) {name}
esp_err_t esp_netif_sntp_init(const esp_sntp_config_t *config);
esp_err_t nvs_flash_init(void);
esp_err_t esp_netif_init(void);
esp_err_t esp_event_loop_create_default(void);
esp_err_t example_connect(void);

#endif
