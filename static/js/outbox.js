// What people decided and is on its way (verdicts, skips, undos): kept on this device, for the person who gave them, until Palate has said that it
// recorded them. What is sent twice carries the same key and is recorded once.

const NAME = "palate-outbox";
const STORE = "verdicts";

let opened = null;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("user", "user");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function run(mode, work) {
  const transaction = (await database()).transaction(STORE, mode);
  const request = work(transaction.objectStore(STORE));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

// Without a database (a private window, say) nothing is kept; sending works as before.
const orNothing = (promise, nothing) => promise.catch(() => nothing);

// `verdict`: { id, user, url, fields: [[name, value]], at }.
export const keep = (verdict) => orNothing(run("readwrite", (store) => store.put(verdict)), undefined);
export const forget = (id) => orNothing(run("readwrite", (store) => store.delete(id)), undefined);
export const waiting = async (user) => {
  const found = await orNothing(run("readonly", (store) => store.index("user").getAll(user)), []);
  return found.sort((one, other) => one.at - other.at);
};

// Where the draft of what is being decided lies until then (drafts.js), by person and assignment.
export const draftOf = (user, url) => `palate-draft ${user} ${url.match(/assignments\/([^/]+)/)?.[1]}`;

export const RECORDED = "recorded";
export const REFUSED = "refused"; // it will never be taken: it was not theirs, or cannot be read
export const SIGNED_OUT = "signed out";
export const UNREACHED = "unreached";

export function outcomeOf(status) {
  if (status < 400) return RECORDED;
  if (status === 401 || status === 403) return SIGNED_OUT;
  return [404, 409, 413, 422].includes(status) ? REFUSED : UNREACHED;
}

// Send one again, with the proof that the page of now carries.
export async function send(verdict, headers) {
  try {
    const body = new URLSearchParams(verdict.fields);
    const answer = await fetch(verdict.url, { method: "POST", body, headers: { ...headers, "HX-Request": "true" }, redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.headers.get("HX-Redirect")?.includes("/sign-in")) return SIGNED_OUT;
    return outcomeOf(answer.status);
  } catch {
    return UNREACHED;
  }
}
