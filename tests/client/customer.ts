// A customer, a PBX, an account and a phone, by a client whose types are made of the API's document: what the
// document says must be enough to write this. Ends with an error at the first thing that is not as it should be.

import createClient from "openapi-fetch";
import type { components, paths } from "../../build/client/openapi.d.ts";

declare const process: { argv: string[]; env: Record<string, string | undefined> };

const [, , origin] = process.argv;
const api = createClient<paths>({
  baseUrl: `${origin}/api/v1`,
  headers: { Authorization: `Bearer ${process.env.DIALTONE_ADMIN_TOKEN}` },
});

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** The body of an answer that is no problem. */
function done<T>(answer: Answer<T>, status: number): T {
  if (answer.error !== undefined || answer.response.status !== status) {
    throw new Error(`${answer.response.url}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data as T;
}

function same(what: string, is: unknown, should: unknown): void {
  if (JSON.stringify(is) !== JSON.stringify(should)) {
    throw new Error(`${what} is ${JSON.stringify(is)}, not ${JSON.stringify(should)}`);
  }
}

const tenant = "client";
const mac = "0250a4c11e01";

const made = done(
  await api.PUT("/tenants/{tenant}", { params: { path: { tenant } }, body: { name: "Client", settings: { language: "de" } } }),
  201,
);
same("the language", made.settings.language, "de");
done(
  await api.PUT("/pbxes/{pbx}", {
    params: { path: { pbx: "client-pbx" } },
    body: {
      tenant,
      ari_url: "http://127.0.0.1:1/ari",
      ari_username: "dialtone",
      ari_password: "a password",
      sip: { host: "pbx.example.com", transport: "tls" },
    },
  }),
  201,
);
done(
  await api.PUT("/accounts/{account}", {
    params: { path: { account: "client-1001" } },
    body: { tenant, pbx: "client-pbx", username: "1001", display_name: "Zoë" },
  }),
  201,
);
const phone: components["schemas"]["Device"] = done(
  await api.PUT("/devices/{mac}", {
    params: { path: { mac } },
    body: { tenant, vendor: "yealink", model: "T46U", serial: "CLIENT1", lines: [{ line: 1, account: "client-1001" }] },
  }),
  201,
);
if (!phone.first_access?.url.startsWith(`${origin}/rps/`)) {
  throw new Error("the answer that makes a phone has no first-access URL");
}

const files = done(await api.GET("/devices/{mac}/files", { params: { path: { mac } } }), 200);
const names = files.items.map((file) => file.name);
for (const name of ["boot.cfg", "ACC.cfg", "BTN.cfg"]) {
  same(`whether ${name} is there`, names.includes(name), true);
}
for (const name of names) {
  const text = done(
    await api.GET("/devices/{mac}/files/{name}", { params: { path: { mac, name } }, parseAs: "text" }),
    200,
  );
  if (name === "ACC.cfg" && !text.includes("account.1.display_name = Zoë\n")) {
    throw new Error(`ACC.cfg has not the display name:\n${text}`);
  }
}

// A change that came too late, and one that is wrong, end as the document says.
const late = await api.PATCH("/devices/{mac}", {
  params: { path: { mac }, header: { "If-Match": '"0"' } },
  body: { site: "berlin" },
});
same("the late change", late.error?.type, "urn:dialtone:problem:precondition_failed");
const wrong = await api.PATCH("/devices/{mac}", { params: { path: { mac } }, body: { profile: "nobody" } });
same("the wrong field", wrong.error?.errors?.[0]?.pointer, "/profile");

for (const path of [`devices/${mac}`, "accounts/client-1001", "pbxes/client-pbx", `tenants/${tenant}`] as const) {
  const [kind, id] = path.split("/") as ["devices" | "accounts" | "pbxes" | "tenants", string];
  switch (kind) {
    case "devices":
      done(await api.DELETE("/devices/{mac}", { params: { path: { mac: id } } }), 204);
      break;
    case "accounts":
      done(await api.DELETE("/accounts/{account}", { params: { path: { account: id } } }), 204);
      break;
    case "pbxes":
      done(await api.DELETE("/pbxes/{pbx}", { params: { path: { pbx: id } } }), 204);
      break;
    case "tenants":
      done(await api.DELETE("/tenants/{tenant}", { params: { path: { tenant: id } } }), 204);
      break;
  }
}
