// Uses the dashboard as a person does: node drive.js MODULES CHROMIUM ADDRESS SCENARIO, with the key in DASHBOARD_KEY.
// Ends with 0 if everything was as it should be; else it says what was not.
"use strict";
const path = require("path");
const fs = require("fs");
const assert = require("assert");
const [modules, executablePath, home, scenario] = process.argv.slice(2);
const { chromium } = require(path.join(modules, "node_modules/playwright-core"));
const axe = fs.readFileSync(path.join(modules, "node_modules/axe-core/axe.min.js"), "utf8");
const key = process.env.DASHBOARD_KEY;
const PATIENCE = 60_000;
const problems = [];

// What a page does that it must not: run what is not ours, fail, or ask elsewhere.
const watch = (page) => {
  page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
  page.on("console", (line) => { if (line.type() === "error") problems.push(`console: ${line.text()} at ${page.url()}`); });
  page.on("request", (request) => {
    if (!request.url().startsWith(home)) problems.push(`asked elsewhere: ${request.url()}`);
    if (request.url().includes(key)) problems.push(`the key is in an address: ${request.url()}`);
  });
  page.setDefaultTimeout(PATIENCE);
  return page;
};

const signIn = async (context) => {
  const page = watch(await context.newPage());
  await page.goto(home);
  await page.getByLabel("Key of the dashboard").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  return page;
};

// The policy of the page lets nothing of others run; playwright's own world is apart from it.
const lint = async (page, what) => {
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const one of found.violations) {
    problems.push(`axe, ${what}: ${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
  }
};

const fits = async (page, what) => {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  if (wide > window) problems.push(`${what} scrolls sideways: ${wide} in ${window}`);
};

const pages = async (page) => {
  const rollout = await page.locator("#recent a.name").first().getAttribute("href");
  const origin = new URL(home).origin;
  return [home, `${home}/rollouts`, origin + rollout, `${origin}${rollout}/confirm?command=retry`, `${home}/deployments`,
    `${home}/audit`, `${home}/switch?to=stop`, `${home}/login`, `${home}/nothing`];
};

const everyPage = async (browser) => {
  // Colours do not depend on the window, nor the window on colours: each is looked at once with half of the other.
  for (const [colorScheme, viewport] of [["light", { width: 400, height: 800 }], ["dark", { width: 1200, height: 900 }]]) {
    const context = await browser.newContext({ colorScheme, viewport });
    const page = await signIn(context);
    for (const address of await pages(page)) {
      await page.goto(address).catch(() => {});
      await lint(page, `${address.slice(home.length)} ${colorScheme}`);
      await fits(page, `${address.slice(home.length)} ${colorScheme}`);
    }
    await page.goto(`${home}/deployments`);
    await page.locator(".rows a.name").first().click();
    await page.getByRole("heading", { name: "History" }).waitFor();
    await lint(page, `a deployment ${colorScheme}`);
    await fits(page, `a deployment ${colorScheme}`);
    await page.getByRole("button", { name: "Put on hold…" }).click();
    await page.getByRole("heading", { name: "Put this deployment on hold?" }).waitFor();
    await lint(page, `a hold ${colorScheme}`);
    await fits(page, `a hold ${colorScheme}`);
    if (colorScheme === "light") {
      await page.setViewportSize({ width: 1200, height: 900 });
      await page.goto(home);
      await lint(page, "the overview in light and wide");
    }
    await context.close();
  }
};

const confirm = async (page, button, then) => {
  await page.getByRole("button", { name: button }).first().click();
  await page.getByRole("button", { name: then, exact: true }).click();
};

const withoutScript = async (browser) => {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 1000, height: 800 } });
  const page = await signIn(context);
  await page.locator("#recent a.name").first().click();
  await page.getByLabel("State").selectOption("succeeded");
  await page.getByRole("button", { name: "Show" }).click();
  assert((await page.locator("#refreshes tbody tr").count()) > 0, "the filter works without a script");
  assert.equal(await page.locator("#refreshes .state:not(.done)").count(), 0);
  await page.goto(home);
  await confirm(page, "Stop everything…", "Stop everything");
  await page.getByText("Everything is stopped.").waitFor();
  await confirm(page, "Let everything go on…", "Go on");
  await page.getByRole("button", { name: "Stop everything…" }).waitFor();
  await page.goto(`${home}/deployments`);
  await page.locator(".rows a.name").first().click();
  await page.getByRole("button", { name: "Put on hold…" }).click();
  await page.getByLabel("Why, for whoever finds the hold").fill("their audit");
  await page.getByLabel("Until, in UTC; empty for no end").fill("2099-01-01T08:30");
  await page.getByRole("button", { name: "Put on hold", exact: true }).click();
  await page.getByText("until 2099-01-01 08:30 UTC: their audit").waitFor();
  await confirm(page, "Release…", "Release");
  await page.getByText("It is released").waitFor();
  await page.goto(`${home}/audit?state=commands`);
  await page.getByText("deployment.release").waitFor();
  await page.goto(`${home}/audit?state=dead`);
  await page.getByText("Nothing yet.").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Key of the dashboard").waitFor();
  await page.goto(home);
  await page.getByLabel("Key of the dashboard").waitFor();
  await context.close();
};

const byKeyboard = async (browser) => {
  const page = await signIn(await browser.newContext());
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => location.hash), "#main");
  await page.context().close();
};

const scenarios = {
  // A rollout that goes on: watched on one page, without loading it again, to its end.
  async demo(browser) {
    const page = await signIn(await browser.newContext());
    await page.evaluate(() => { window.isSamePage = true; });
    await page.locator("#recent .state", { hasText: "completed" }).waitFor();
    await page.locator("#open .hint", { hasText: "No rollout is under way." }).waitFor();
    await page.getByRole("heading", { name: "Left over" }).waitFor();
    assert(await page.evaluate(() => window.isSamePage), "the page was loaded again");
    for (const part of ["#held", "#plans", "#open", "#left", "#recent"]) {
      assert.equal(await page.locator(part).count(), 1, `${part} is still there`);
    }
    assert.match(await page.locator("#plans").innerText(), /9\d %/);
    await everyPage(browser);
    await withoutScript(browser);
    await byKeyboard(browser);
  },

  // A rollout that waits for a person, with an error that would like to be HTML.
  async paused(browser) {
    const page = await signIn(await browser.newContext());
    await page.locator("#open .state", { hasText: "paused" }).waitFor();
    await page.locator("#open h3 a").click();
    await confirm(page, "Resume…", "Resume");
    await page.getByText("It goes on.").waitFor();
    console.log("resumed");
    await page.locator("#standing .state", { hasText: "completed" }).waitFor();
    await page.locator("#failures .message", { hasText: '"><img src=x' }).waitFor();
    assert.match(await page.locator("#announce").innerText(), /completed/);
    await lint(page, "the rollout");
    await page.locator("#failures a.name").first().click();
    await page.getByText('"><img src=x').first().waitFor();
    assert.equal(await page.evaluate(() => document.body.dataset.hacked), undefined);
    assert.equal(await page.locator("img[src=x]").count(), 0);
    await lint(page, "the deployment");
  },
};

// Whatever hangs, it ends.
setTimeout(() => { console.error("it took too long"); process.exit(1); }, 4 * PATIENCE).unref();
(async () => {
  // The sandbox wants a user of its own, which a container seldom has. The pages are our own.
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    await scenarios[scenario](browser);
  } finally {
    await browser.close();
  }
  // Said of pages that are to be no page.
  const real = problems.filter((problem) => !/status of 404/.test(problem));
  if (real.length > 0) throw new Error([...new Set(real)].join("\n"));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
