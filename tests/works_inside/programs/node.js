const assert = require("assert");
const fs = require("fs/promises");
const http = require("http");
const { exec } = require("child_process");
const { promisify } = require("util");
const { Worker } = require("worker_threads");

async function main() {
    const server = http.createServer((request, response) => response.end("served"));
    await new Promise((resolve) => server.listen(0, "localhost", resolve));
    const answer = await new Promise((resolve) => http.get({ host: "localhost", port: server.address().port }, resolve));
    let body = "";
    for await (const part of answer) body += part;
    assert.equal(body, "served");
    server.close();
    const worker = new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true });
    assert.equal(await new Promise((resolve) => worker.once("message", resolve)), 42);
    assert.equal((await promisify(exec)("echo child")).stdout, "child\n");
    await fs.writeFile("file", "x".repeat(100000));
    assert.equal((await fs.stat("file")).size, 100000);
    require("crypto").pbkdf2Sync("a", "b", 1000, 32, "sha256");
}

main().catch((error) => { console.error(error); process.exit(1); });
