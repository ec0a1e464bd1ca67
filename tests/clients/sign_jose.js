// jose makes keys and tokens. Reads a list of requests on standard input, and prints the list of answers:
// {"generate": "EdDSA"}                   a new private key, as a JWK
// {"key": JWK, "header": {}, "claims": {}}  a token of these claims, signed with alg of the header
// {"key": JWK, "header": {}, "text": ""}    the same of any text at all
const { readFileSync } = require('fs');
const jose = require('jose');

async function generate(alg) {
  const { privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  return jose.exportJWK(privateKey);
}

async function sign({ header, key, claims, text }) {
  if (header.alg === 'none') return new jose.UnsecuredJWT(claims).encode();
  const secret = await jose.importJWK(key, header.alg);
  const token = text === undefined
    ? new jose.SignJWT(claims)
    : new jose.CompactSign(new TextEncoder().encode(text));
  return token.setProtectedHeader(header).sign(secret);
}

function answer(request) {
  return request.generate ? generate(request.generate) : sign(request);
}

Promise.all(JSON.parse(readFileSync(0)).map(answer))
  .then((answers) => console.log(JSON.stringify(answers)));
