// Says on standard output, four times a second, what memory the Worker's isolate takes, in bytes: what
// V8 counts in its heap, the objects beside it, and the buffers, of which the memory of wasm is the most.
//
//   node heap.mjs PORT    the port of the inspector
const [port] = process.argv.slice(2);
const [target] = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
// Without an origin on this machine Wrangler lets nobody in.
const socket = new WebSocket(target.webSocketDebuggerUrl, { headers: { Origin: 'http://localhost' } });

socket.onopen = () => {
  let id = 0;
  setInterval(() => socket.send(JSON.stringify({ id: (id += 1), method: 'Runtime.getHeapUsage' })), 250);
};
socket.onmessage = (message) => {
  const usage = JSON.parse(message.data).result;
  if (usage?.totalSize !== undefined) {
    const { totalSize, embedderHeapUsedSize, backingStorageSize } = usage;
    console.log(`${totalSize} ${embedderHeapUsedSize} ${backingStorageSize}`);
  }
};
socket.onclose = () => process.exit(1);
