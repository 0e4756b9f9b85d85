// An OpenID Connect issuer over HTTPS: oidc-provider, certified by the OpenID Foundation, with accounts of any name.
// Takes its configuration as one line of JSON; prints its URL when it accepts requests. Each further line holds the keys
// that it signs with from then on.
import { createServer } from "node:https";
import { createInterface } from "node:readline";
import { Provider } from "oidc-provider";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const given = JSON.parse((await lines.next()).value);
const server = createServer({ key: given.key, cert: given.certificate });
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `https://localhost:${server.address().port}`;

let handle;
function signWith(jwks) {
  const provider = new Provider(issuer, {
    clients: given.clients,
    jwks,
    cookies: { keys: ["tests"] },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "PS256"] },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, ...given.claims }) }),
    claims: { openid: ["sub", ...Object.keys(given.claims)] },
    conformIdTokenClaims: false,
    ttl: { IdToken: given.lifetime },
  });
  handle = provider.callback();
}
signWith(given.jwks);
server.on("request", (request, response) => handle(request, response));
console.log(issuer);
for await (const line of lines) {
  signWith(JSON.parse(line));
  console.log("signs with other keys");
}
process.exit(0);
