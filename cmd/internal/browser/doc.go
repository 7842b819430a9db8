// Package browser holds the tests of the console in a real browser: Debian's
// Chromium, driven by chromedp, against a whole server on a PostgreSQL of its
// own. Without Chromium they are skipped on a laptop and fail where CI=true.
//
// What the browser showed is kept as pictures in .screens at the module's root,
// which git ignores: look at them.
package browser
