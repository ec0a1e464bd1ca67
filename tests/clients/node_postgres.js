// node-postgres logs in and runs a statement. Usage: node_postgres.js URL STATEMENT
const { Client } = require('pg');

function show(failure) {
  console.log(JSON.stringify(failure, (_, value) => value ?? null));
}

async function main(url, statement) {
  const client = new Client(url);
  try {
    await client.connect();
    await client.query(statement);
  } catch (error) {
    const { constraint, code: sqlstate, message, detail, hint } = error;
    show({ constraint, sqlstate, message, detail, hint });
  } finally {
    await client.end();
  }
}

main(...process.argv.slice(2));
