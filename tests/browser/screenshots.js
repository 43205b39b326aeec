// Pictures of the dashboard for the README: node screenshots.js MODULES CHROMIUM ADDRESS FOLDER, with the key in DASHBOARD_KEY.
"use strict";
const path = require("path");
const [modules, executablePath, home, folder] = process.argv.slice(2);
const { chromium } = require(path.join(modules, "node_modules/playwright-core"));

const signIn = async (browser, options) => {
  const page = await (await browser.newContext(options)).newPage();
  await page.goto(home);
  await page.getByLabel("Key of the dashboard").fill(process.env.DASHBOARD_KEY);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  return page;
};

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const light = await signIn(browser, { colorScheme: "light", viewport: { width: 1100, height: 1150 } });
  // In the midst of the last wave, once something has failed.
  await light.locator("#open .actor").first().waitFor({ timeout: 60_000 });
  await light.screenshot({ path: path.join(folder, "overview-light.png") });
  await light.locator("#recent .state", { hasText: "completed" }).waitFor({ timeout: 60_000 });
  const dark = await signIn(browser, { colorScheme: "dark", viewport: { width: 1100, height: 1150 } });
  await dark.locator("#recent a.name").click();
  await dark.getByRole("heading", { name: "Waves" }).waitFor();
  await dark.screenshot({ path: path.join(folder, "rollout-dark.png") });
  const phone = await signIn(browser, { colorScheme: "light", viewport: { width: 400, height: 860 } });
  await phone.screenshot({ path: path.join(folder, "overview-phone.png") });
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
