// Writes what comes on standard input straight into the databases of the local KV and R2 simulators:
// to put 700,000 things there one by one through a Worker takes half an hour. The files of the values
// are there already. Wrangler made the databases; nobody may have them open.
//
//   node stores.mjs DIRECTORY fill    one JSON array a line: ["kv", key, file, metadata or null], or
//                                     ["r2", key, file, metadata, length, MD5 in hex]
//   node stores.mjs DIRECTORY show    says in the same form what is there
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';

const [directory, what] = process.argv.slice(2);

function open(store, object) {
  const path = `${directory}/v3/${store}/${object}`;
  const file = readdirSync(path).find((name) => name.endsWith('.sqlite') && name !== 'metadata.sqlite');
  return new DatabaseSync(`${path}/${file}`);
}

const kv = open('kv', 'miniflare-KVNamespaceObject');
const r2 = open('r2', 'miniflare-R2BucketObject');

if (what === 'show') {
  for (const row of kv.prepare('SELECT key, blob_id, metadata FROM _mf_entries').all()) {
    console.log(JSON.stringify(['kv', row.key, row.blob_id, row.metadata]));
  }
  const objects = r2.prepare('SELECT key, blob_id, custom_metadata, size, etag FROM _mf_objects').all();
  for (const row of objects) {
    console.log(JSON.stringify(['r2', row.key, row.blob_id, row.custom_metadata, row.size, row.etag]));
  }
} else {
  const now = Date.now();
  const putKv = kv.prepare('INSERT OR REPLACE INTO _mf_entries VALUES (?, ?, NULL, ?)');
  const putR2 = r2.prepare("INSERT OR REPLACE INTO _mf_objects VALUES (?, ?, ?, ?, ?, ?, '{}', '{}', ?)");
  kv.exec('BEGIN; DELETE FROM _mf_entries');
  r2.exec('BEGIN; DELETE FROM _mf_objects');
  let version = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const [store, key, file, metadata, length, md5] = JSON.parse(line);
    if (store === 'kv') {
      putKv.run(key, file, metadata);
    } else {
      version += 1;
      putR2.run(key, file, version.toString(16).padStart(32, '0'), length, md5, now, metadata);
    }
  }
  for (const store of [kv, r2]) {
    store.exec('COMMIT');
    store.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  }
}
kv.close();
r2.close();
