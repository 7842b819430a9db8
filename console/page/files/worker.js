// Keeps the page itself for when the server is away: always the newest first,
// what was kept only if there is no answer. Nothing of the API is kept.
const kept = "page";
const files = ["/"]; // and the others, which the server fills in

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(kept).then((cache) => cache.addAll(files)));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const ours = url.origin === location.origin && (url.pathname === "/" || url.pathname.startsWith("/page/"));
  if (!ours || event.request.method !== "GET") return;
  event.respondWith(fetch(event.request).then((response) => {
    if (response.ok) {
      const copy = response.clone();
      event.waitUntil(caches.open(kept).then((cache) => cache.put(url.pathname, copy)));
    }
    return response;
  }, async (error) => {
    const found = await caches.match(url.pathname);
    if (found) return found;
    throw error;
  }));
});
