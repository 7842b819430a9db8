// Shows the example page of a device in a Chromium without a window, until it is
// ended: node browser.mjs CHROMIUM FOLDER-OF-serve.mjs URL TOKEN
//
// Everything it starts is in its process group and ends with it.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [chromium, folder, url, token] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), 'mooring-conform-'));
const pages = spawn('node', [join(folder, 'serve.mjs'), `http://${new URL(url).host}`, '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
let browser;
let said = '';
pages.stdout.on('data', (text) => {
  said += text;
  const page = /http:\/\/\S+\/browser\//.exec(said);
  if (browser || !page) return;
  browser = spawn(chromium, [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
    '--no-first-run', '--no-default-browser-check', '--remote-debugging-port=0', `--user-data-dir=${profile}`,
    `${page[0]}device.html#seconds=0.05&token=${token}`,
  ], { stdio: 'ignore' });
  browser.on('exit', end);
});
function end() {
  pages.kill();
  // Chromium's last writes may come while its folder is being removed.
  const gone = () => {
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    process.exit(0);
  };
  if (!browser || browser.exitCode !== null || browser.signalCode !== null) return gone();
  browser.once('exit', gone);
  browser.kill();
}
process.on('SIGTERM', end);
process.on('SIGINT', end);
