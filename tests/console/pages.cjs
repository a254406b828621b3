// Looks at the console and uses it, in a headless Chromium: pages.cjs NODE_URL OTHER_NODE_URL WRITE_KEY FOLDER
//
// Prints a line of JSON for each step, the last one `{"done":true}`; fails with what is wrong. Pictures go to FOLDER.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const puppeteer = require("puppeteer-core");

const [node, otherNode, writeKey, folder] = process.argv.slice(2);
const PATIENCE = { timeout: 60000 };
const DESK = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };
const SMALL = { width: 360, height: 740 };

// Where a program is: the driver wants its whole path.
const found = (program) => {
  if (program.includes("/")) return program;
  return process.env.PATH.split(":").map((folder) => path.join(folder, program)).find((file) => fs.existsSync(file));
};

const step = (name) => console.log(JSON.stringify({ step: name }));

// What a page has said on its console, and what it could not load: all of it is an error, except a page that is
// expected to be one.
const complaints = [];
const watched = async (browser) => {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE.timeout);
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText;
    // What was under way when the page was left.
    if (why !== "net::ERR_ABORTED") complaints.push(`${request.url()}: ${why}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(node)) complaints.push(`${page.url()} loads ${request.url()}`);
  });
  page.on("dialog", (dialog) => {
    complaints.push(`${page.url()} runs what a customer said: ${dialog.message()}`);
    dialog.dismiss();
  });
  return page;
};

const text = (page, selector) => page.$eval(selector, (element) => element.textContent.trim());
const reaches = (page, click) => Promise.all([page.waitForNavigation(PATIENCE), click()]);

const fits = async (page, name) => {
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(wide <= room, `${name} is ${wide} wide and has ${room}`);
};

// Contrast of text and its ground (WCAG 2.1, 1.4.3: 4.5 at least) in the places where colours meet.
const readable = async (page, name) => {
  const faint = await page.evaluate(() => {
    const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = (colour) => {
      const [r, g, b] = channels(colour).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if ((channels(colour)[3] ?? 1) > 0) return colour;
      }
      return "rgb(255, 255, 255)";
    };
    const own = (element) => [...element.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    return [...document.querySelectorAll("body *")]
      .filter((element) => own(element) && element.checkVisibility() && !element.closest(".hidden, .skip, svg"))
      .map((element) => {
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
        return [`${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 30)}`, (a + 0.05) / (b + 0.05)];
      })
      .filter(([, contrast]) => contrast < 4.5);
  });
  assert.deepEqual(faint, [], `${name} is hard to read`);
};

const looks = async (browser, pages) => {
  const page = await watched(browser);
  for (const [name, where] of pages) {
    for (const theme of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
      await page.setViewport(DESK);
      await page.goto(node + where, { waitUntil: "load" });
      await readable(page, `${name}, ${theme}`);
      for (const [size, wide] of [[DESK, "desk"], [PHONE, "phone"], [SMALL, null]]) {
        await page.setViewport(size);
        await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
        await fits(page, `${name} at ${size.width}`);
        if (wide) await page.screenshot({ path: path.join(folder, `${name}-${wide}-${theme}.png`), fullPage: true });
      }
    }
    step(`looked at ${name}`);
  }
  await page.close();
};

const withoutScripts = async (browser, customer) => {
  const page = await watched(browser);
  await page.setJavaScriptEnabled(false);
  await page.goto(`${node}/`);
  assert.match(await text(page, "main"), /All is well/);
  await page.goto(`${node}/ingest`);
  assert.ok(await page.$("figure svg path"), "the chart is drawn without scripts, too");
  await page.goto(node + customer);
  assert.match(await text(page, "main"), /ada@example\.org/);
  await page.close();
  step("read without scripts");
};

const byKeyboard = async (browser) => {
  const page = await watched(browser);
  await page.setViewport(DESK);
  await page.goto(`${node}/`);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.id === "main", PATIENCE);
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "search");
  await page.keyboard.type("Ada@Example.org");
  await reaches(page, () => page.keyboard.press("Enter"));
  assert.match(page.url(), /\/customers\/[0-9a-f]{32}$/, "a search that finds one customer goes there");
  assert.equal(await text(page, "h1"), "Ada King");
  const shown = await text(page, "main");
  for (const part of ["c-91f0", "+442071234567", "Order Completed", "crm", "joined", "refused: too many of user_id", "came"]) {
    assert.ok(shown.includes(part), `${part} is missing: ${shown}`);
  }
  // An event opens, and has what was sent.
  await page.focus(".events summary");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".events details[open] .inside", { visible: true });
  const customer = new URL(page.url()).pathname;
  for (const [said, wanted] of [["anonymous_id:c-91f0", customer], [customer.split("/").pop(), customer], ["42", customer]]) {
    await page.goto(`${node}/customers?q=${encodeURIComponent(said)}`);
    assert.equal(new URL(page.url()).pathname, wanted, said);
  }
  await page.close();
  step("found a customer by keyboard");
  return customer;
};

const theme = async (browser) => {
  const page = await watched(browser);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  await page.goto(`${node}/quarantine`);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await reaches(page, () => page.click("button[name=theme][value=dark]"));
  assert.equal(new URL(page.url()).pathname, "/quarantine", "it goes back to where one was");
  assert.notEqual(await ground(), light);
  await page.goto(`${node}/ingest`);
  assert.notEqual(await ground(), light, "the choice is kept");
  await reaches(page, () => page.click("button[name=theme][value=system]"));
  assert.equal(await ground(), light);
  await page.close();
  step("chose a theme");
};

const follows = async (browser) => {
  const page = await watched(browser);
  await page.setViewport(DESK);
  await page.goto(`${node}/ingest`);
  await page.evaluate(() => (window.sameDocument = true));
  const batch = Array.from({ length: 100 }, (_, n) => ({ type: "track", event: "Seen", userId: `live-${n}`, messageId: `live-${n}` }));
  const headers = { "Content-Type": "application/json", Authorization: `Basic ${btoa(`${writeKey}:`)}` };
  // Through another node than the one whose page is looked at.
  const sent = await fetch(`${otherNode}/v1/batch`, { method: "POST", headers, body: JSON.stringify({ batch }) });
  assert.equal(sent.status, 200, await sent.text());
  await page.waitForFunction(
    () => [...document.querySelectorAll(".sources tbody tr")].some((row) => row.querySelector(".name").textContent === "web"
      && Number(row.querySelector('[data-label="Went in"]').textContent.replace(/\D/g, "")) >= 110),
    PATIENCE,
  );
  assert.ok(await page.evaluate(() => window.sameDocument), "the page was not loaded anew");
  await page.waitForFunction(() => document.querySelector(".u-legend")?.textContent.includes("web"), PATIENCE);
  assert.equal(await text(page, "[data-live-status]"), "Live");
  await page.close();
  step("saw what came in, live");
};

const mends = async (browser) => {
  const page = await watched(browser);
  await page.setViewport(PHONE);
  await page.goto(`${node}/quarantine`);
  const entry = await page.$$eval(".entries a", (links) => links.find((link) => link.textContent.includes("EVENT_NAME_MISSING")).getAttribute("href"));
  // Of the two, the one that is Ada's.
  let wanted = null;
  for (const link of await page.$$eval(".entries a", (links) => links.filter((l) => l.textContent.includes("EVENT_NAME_MISSING")).map((l) => l.getAttribute("href")))) {
    await page.goto(node + link);
    if ((await text(page, "pre.json")).includes('"42"')) wanted = link;
  }
  assert.ok(entry && wanted, "there are entries to mend");
  await page.goto(`${node}/quarantine`);
  await reaches(page, () => page.click(`.entries a[href="${wanted}"]`));
  await page.type("#patch", '{"event": 7}');
  await page.type("#mend-by", "ann");
  await reaches(page, () => page.click("form[action$=mend] button"));
  assert.match(await text(page, "#result"), /can't be taken still/);
  assert.equal(await page.$eval("#patch", (field) => field.value), '{"event": 7}', "the patch stays until it fits");
  await page.screenshot({ path: path.join(folder, "still-phone-light.png"), fullPage: true });
  await page.$eval("#patch", (field) => (field.value = ""));
  await page.type("#patch", "{oops");
  await reaches(page, () => page.click("form[action$=mend] button"));
  assert.match(await text(page, "#result"), /Nothing was done/);
  await page.$eval("#patch", (field) => (field.value = ""));
  await page.type("#patch", '{"event": "Basket Seen"}');
  await reaches(page, () => page.click("form[action$=mend] button"));
  assert.match(await text(page, "#result"), /It went in/);
  assert.match(await text(page, "main"), /mended.*ann/s);
  await page.screenshot({ path: path.join(folder, "mended-phone-light.png"), fullPage: true });
  await page.close();
  step("mended");
};

const replays = async (browser) => {
  const page = await watched(browser);
  await page.setViewport(DESK);
  await page.goto(`${node}/quarantine`);
  await reaches(page, () => page.click('a[href*="reason=SCHEMA_VIOLATION"]'));
  await reaches(page, () => page.click("form[action='/quarantine/replay'] button"));
  assert.equal(await text(page, "#result"), "1 entry went in.");
  // The rest: one more fits by now, and what doesn't says why.
  await page.goto(`${node}/quarantine`);
  await reaches(page, () => page.click("form[action='/quarantine/replay'] button"));
  assert.match(await text(page, "#result"), /^1 entry went in\.3 entries stay as they were:.*NO_IDENTIFIER/);
  await page.screenshot({ path: path.join(folder, "replayed-desk-light.png"), fullPage: true });
  await page.close();
  step("replayed");
};

const asksInSql = async (browser) => {
  const page = await watched(browser);
  await page.setViewport(DESK);
  await page.goto(`${node}/sql`);
  assert.match(await text(page, "main"), /events/, "the tables are listed");
  const statement = "SELECT date_trunc('hour', timestamp) AS hour, count(*) AS seen\nFROM events GROUP BY hour ORDER BY hour";
  await page.type("#statement", statement);
  await page.keyboard.down("Control");
  await reaches(page, () => page.keyboard.press("Enter"));
  await page.keyboard.up("Control");
  assert.equal(await page.$eval("#statement", (field) => field.value), statement, "the statement stays");
  assert.match(await text(page, ".heading #rows + .aside"), /cut [0-9a-f]{16}$/);
  await page.waitForFunction(() => document.querySelector(".u-legend")?.textContent.includes("seen"), PATIENCE);
  await fits(page, "rows");
  await readable(page, "rows");
  await page.screenshot({ path: path.join(folder, "sql-rows-desk-light.png"), fullPage: true });
  await page.$eval("#statement", (field) => (field.value = "SELECT\n  emial FROM profiles"));
  await reaches(page, () => page.click("form[data-sql] button"));
  assert.equal(await text(page, ".place mark"), "emial");
  assert.match(await text(page, "[role=alert]"), /BAD_QUERY.*line 2, column 3/s);
  await readable(page, "refused");
  await page.screenshot({ path: path.join(folder, "sql-refused-desk-light.png"), fullPage: true });
  // What was run is remembered, the latest first, and comes back by a click.
  await page.click(".earlier summary");
  const kept = await page.$$eval(".earlier button", (buttons) => buttons.map((button) => button.textContent));
  assert.deepEqual(kept, ["SELECT\n  emial FROM profiles", statement]);
  await page.click(".earlier li:last-child button");
  assert.equal(await page.$eval("#statement", (field) => field.value), statement);
  // Without scripts it is a form like any other.
  await page.setJavaScriptEnabled(false);
  await page.goto(`${node}/sql`);
  await page.type("#statement", "SELECT 5 AS five, NULL AS nothing");
  await reaches(page, () => page.click("form[data-sql] button"));
  assert.match(await text(page, "table.rows"), /five\s*nothing\s*5\s*null/);
  await page.close();
  step("asked in SQL");
};

const run = async () => {
  const browser = await puppeteer.launch({
    executablePath: found(process.env.CHROMIUM),
    protocolTimeout: 120000,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking"],
  });
  try {
    const customer = await byKeyboard(browser);
    await withoutScripts(browser, customer);
    await theme(browser);
    await follows(browser);
    const page = await watched(browser);
    await page.goto(`${node}/customers?q=${encodeURIComponent("user_id:<script>alert(1)</script>")}`);
    assert.match(await text(page, "h1"), /<img src=x onerror=alert\(1\)>/);
    const hostile = new URL(page.url()).pathname;
    await page.goto(`${node}/quarantine`);
    const entry = await page.$eval(".entries a", (link) => link.getAttribute("href"));
    await page.close();
    await looks(browser, [
      ["overview", "/"],
      ["ingest", "/ingest"],
      ["customers", "/customers"],
      ["customer", customer],
      ["hostile", hostile],
      ["nobody", "/customers?q=nobody@example.org"],
      ["quarantine", "/quarantine"],
      ["entry", entry],
      ["sql", "/sql"],
    ]);
    await mends(browser);
    await replays(browser);
    await asksInSql(browser);
  } finally {
    await browser.close();
  }
  assert.deepEqual(complaints, []);
};

run().then(() => console.log(JSON.stringify({ done: true })), (error) => {
  console.error(error);
  process.exitCode = 1;
});
