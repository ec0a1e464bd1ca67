"""psycopg 3 logs in and runs a statement. Usage: psycopg3.py CONNINFO STATEMENT"""

import json
import sys

import psycopg


def show(**failure):
    print(json.dumps(failure))


conninfo, statement = sys.argv[1:]
try:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement)
except psycopg.Error as error:
    why = error.diag
    show(
        constraint=why.constraint_name,
        sqlstate=why.sqlstate,
        # A failed login has no fields: its text is all there is, DETAIL and HINT among it.
        message=why.message_primary or str(error),
        detail=why.message_detail,
        hint=why.message_hint,
    )
