// Serves the tables of Azurite from memory on a free port, says where on stdout, and ends when stdin does: with the tests.
"use strict";
const root = require("path").join(process.argv[2], "node_modules/azurite/dist/src/table");
const TableConfiguration = require(`${root}/TableConfiguration`).default;
const TableServer = require(`${root}/TableServer`).default;

const [metadata, debugLog, accessLog, loose, skipApiVersionCheck, productStyleUrlOff, inMemory] =
  ["unused", false, false, false, false, false, true];
const configuration = new TableConfiguration(
  "127.0.0.1", 0, 60, metadata, debugLog, accessLog, undefined, undefined, loose, skipApiVersionCheck,
  "", "", "", undefined, productStyleUrlOff, inMemory);
const server = new TableServer(configuration);
process.stdin.resume().on("end", () => process.exit(0));
server.start().then(
  () => console.log(`listening ${server.getHttpServerAddress()}`),
  (error) => { console.error(error); process.exit(1); });
