// The Worker's entry: hands each event to the wasm module and outlives its panics.
//
// A Rust panic ends the wasm instance, not only the request it happens in: the promise of that
// request, and of every other that the instance was working on, is then never settled. Left alone,
// workerd lets the callers wait until it notices the hang. So here each event races against the
// instance's death, and the first event after a death starts a new instance.
//
// Written to build/index.js by `cargo xtask build`, beside the modules of wasm-bindgen.

import * as worker from "./dialtone.js";

// What to do to each event in flight when the instance dies.
const inFlight = new Set();

// Why the instance cannot be used any more, or null while it can.
let death = null;

function die(cause) {
  death ??= cause;
  for (const fail of inFlight) fail(cause);
  inFlight.clear();
}

// The panic hook of the `worker` crate sets `criticalError` on this object, before the trap.
Object.defineProperty(worker.__worker_init_state(), "criticalError", {
  get: () => death !== null,
  set: (value) => {
    if (value) die(new Error("the wasm instance panicked"));
  },
});

// A trap without a panic (stack overflow, out of memory) in code that runs after an `await` reaches
// nobody's promise: it is reported here.
addEventListener("error", (event) => {
  if (event.error instanceof WebAssembly.RuntimeError) die(event.error);
});

async function run(handler, ...args) {
  if (death !== null) {
    console.warn("Starting a new wasm instance");
    // Throws if the new instance cannot start: then this event fails, and the next one tries again.
    worker.__wbg_reset_state();
    death = null;
  }

  // A fresh promise for each event: workerd does not run what follows on a promise in the context of
  // another request, so with a shared one the others would hang.
  let fail;
  const died = new Promise((_, reject) => {
    fail = reject;
  });
  inFlight.add(fail);
  try {
    return await Promise.race([handler(...args), died]);
  } catch (error) {
    // A trap before the first `await` comes out of the call itself.
    if (error instanceof WebAssembly.RuntimeError) die(error);
    throw error;
  } finally {
    inFlight.delete(fail);
  }
}

export default {
  async fetch(request, env, ctx) {
    try {
      return await run(worker.fetch, request, env, ctx);
    } catch (error) {
      console.error("No answer from the wasm instance:", error);
      // Nothing of the error: it may quote what must not leave the Worker.
      return new Response("Internal Server Error\n", {
        status: 500,
        headers: { "Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store" },
      });
    }
  },

  // A failure goes on to workerd, which reports the run as failed.
  async scheduled(event, env, ctx) {
    await run(worker.scheduled, event, env, ctx);
  },
};
