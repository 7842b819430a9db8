// A row of temperature and battery a minute. See ../README.md.
#if defined(ESP8266)
#include <ESP8266WiFi.h>
#include <time.h>
#else
#include <WiFi.h>
#endif
#include <WiFiClientSecure.h>

#include "mooring.h"

#if __has_include("settings.h")
#include "settings.h"  // these names with your values; keep it out of your repository
#else
#define NETWORK "network"
#define PASSWORD "password"
#define SERVER "example.org"
#define PORT 443
#define TOKEN "the device's token"
// #define AUTHORITY "-----BEGIN CERTIFICATE-----\n…" who the server's certificate is from
// #define PLAIN                                      no TLS: for a server on your own desk
// #define INSECURE                                   TLS with whoever answers, for the first five minutes
// #define EVERY_MS 60000                             between two rows
#endif
#ifndef EVERY_MS
#define EVERY_MS 60000
#endif
#if !defined(AUTHORITY) && !defined(PLAIN) && !defined(INSECURE)
#error "define AUTHORITY, who the server's certificate is from; else the token goes to whoever answers"
#endif

#ifdef PLAIN
static WiFiClient line;
#else
static WiFiClientSecure line;
#endif

// trust says whose certificates are good.
static void trust() {
#if defined(AUTHORITY) && defined(ESP8266)
  static BearSSL::X509List authority(AUTHORITY);
  line.setTrustAnchors(&authority);
  configTime(0, 0, "pool.ntp.org");  // certificates begin and end; line_open waits for the time
#elif defined(AUTHORITY)
  line.setCACert(AUTHORITY);
#elif defined(INSECURE)
  line.setInsecure();
#endif
}

// line_open says on the serial line why TLS refused: a device that trusts another authority, or
// whose server has another name, is silent otherwise.
static int line_open(void *) {
  if (WiFi.status() != WL_CONNECTED) return -1;
#if defined(AUTHORITY) && defined(ESP8266)
  if (time(nullptr) < 1700000000) return 0;  // ask again; rows are made meanwhile
#endif
  if (line.connect(SERVER, PORT)) return 1;
  char why[100] = "";
  int code = 0;
#if !defined(PLAIN) && defined(ESP8266)
  code = line.getLastSSLError(why, sizeof why);
#elif !defined(PLAIN)
  code = line.lastError(why, sizeof why);
#endif
  Serial.printf("no connection to %s: %s\n", SERVER, code ? why : "nobody answers");
  return -1;
}

static int line_send(void *, const uint8_t *bytes, size_t length) {
  if (!line.connected()) return -1;
  return (int)line.write(bytes, length);
}

static int line_recv(void *, uint8_t *bytes, size_t length) {
  if (line.available() > 0) return line.read(bytes, length);
  return line.connected() ? 0 : -1;
}

static void line_close(void *, uint16_t) { line.stop(); }

static uint32_t line_random(void *) {
#if defined(ESP8266)
  return ESP.random();
#else
  return esp_random();
#endif
}

static const struct mooring_channel air[] = {{"temperature", "°C", MOORING_NUMBER, -1}, {"battery", "V", MOORING_NUMBER, -3}};
static const struct mooring_layout layouts[] = {{"air", air, 2}};

static struct mooring_config config;  // filled in setup(): C++ before 20 names no fields
static struct mooring m;
static uint8_t memory[8 * 1024];

void setup() {
  Serial.begin(115200);
  WiFi.begin(NETWORK, PASSWORD);
  while (WiFi.status() != WL_CONNECTED) delay(100);
  trust();
  config.host = SERVER;
  config.path = "/v1/stream";
  config.token = TOKEN;
  config.model = "arduino";
  config.layouts = layouts;
  config.layout_count = 1;
  config.drop_oldest = true;
  config.open = line_open;
  config.send = line_send;
  config.recv = line_recv;
  config.close = line_close;
  config.random = line_random;
  while (!mooring_init(&m, &config, memory, sizeof memory, 1024, millis())) {
    Serial.println("a token that long needs a larger frame");
    delay(10000);
  }
}

void loop() {
  static uint32_t due = millis();
  if ((int32_t)(millis() - due) >= 0) {
    due += EVERY_MS;
    struct mooring_value values[] = {mooring_int(215), mooring_int(3712)};  // your sensors
    mooring_append(&m, 0, MOORING_NOW, values);
  }
  static uint8_t state = 0;
  uint32_t wait = mooring_poll(&m, millis());
  if (m.state != state && m.state == 0) Serial.printf("away for %u ms; last ended %u\n", (unsigned)wait, m.ended);
  if (m.state != state && m.state == 3) Serial.printf("connected; %u rows wait\n", (unsigned)mooring_waiting(&m));
  state = m.state;
  delay(wait < 50 ? wait : 50);
}
