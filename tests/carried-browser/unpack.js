// Unpacks the Chromium that an npm package carries, with its libraries and a font: node unpack.js MODULES. Its last line says
// where what starts it is. The package itself would unpack it to the temporary folder, where others may have been before.
"use strict";
const fs = require("fs");
const path = require("path");
const { pipeline } = require("stream/promises");
const zlib = require("zlib");
const [modules] = process.argv.slice(2);
const carried = path.join(modules, "node_modules/@sparticuz/chromium/bin");
const folder = path.join(modules, "chromium");

const START = `#!/bin/sh
# It is built for a machine without its libraries and fonts, and brings them along.
here=$(dirname "$0")
export LD_LIBRARY_PATH="$here/lib" FONTCONFIG_PATH="$here/fonts"
exec "$here/chromium" "$@"
`;
// The one that comes along names folders of that other machine. A cache needs a whole path, or it is where somebody works.
const xml = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
const FONTS = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <cachedir>${xml(path.resolve(folder, "cache"))}</cachedir>
</fontconfig>
`;

(async () => {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error("the Chromium from npm is for Linux on x64: install one, or set CHROMIUM to its path");
  }
  if (!fs.existsSync(folder)) {
    const { extract } = require(path.join(modules, "node_modules/tar-fs"));
    const unfinished = fs.mkdtempSync(`${folder}-`);
    const inside = (name) => path.join(unfinished, name);
    const unpack = (name, to) =>
      pipeline(fs.createReadStream(path.join(carried, name)), zlib.createBrotliDecompress(), to);
    await Promise.all([
      unpack("chromium.br", fs.createWriteStream(inside("chromium"), { mode: 0o700 })),
      unpack("al2023.tar.br", extract(unfinished)),
      unpack("fonts.tar.br", extract(inside("fonts"))),
    ]);
    fs.writeFileSync(inside("fonts/fonts.conf"), FONTS);
    fs.writeFileSync(inside("start"), START, { mode: 0o700 });
    try {
      fs.renameSync(unfinished, folder);
    } catch (error) {
      // Somebody else was quicker.
      fs.rmSync(unfinished, { recursive: true });
      if (!fs.existsSync(folder)) throw error;
    }
  }
  console.log(path.join(folder, "start"));
})().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
