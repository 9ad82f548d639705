/* A private PostgreSQL for one C test program, and fresh databases on it.
 *
 * A guardian process owns the server: when the test program is gone, however it ended, it stops
 * the server and removes its directory. No fixed port: a unix socket in the directory. */
#ifndef TESTS_SERVER_H
#define TESTS_SERVER_H

#include <stdbool.h>

#include <libpq-fe.h>

#include <pgqueuer/client.h>

enum { SERVER_DSN_BYTES = 256 };

/* Starts the server; its template database has the schema installed. False: this machine has no
 * PostgreSQL server, and "1..0 # SKIP" was printed. Any other failure ends the program. */
bool server_start(void);

/* Stops it and removes its files; also done at exit. */
void server_stop(void);

/* The directory of the server's socket. */
const char *server_socket_directory(void);

/* A database of its own for one test. */
typedef struct database {
    char name[32];
    char dsn[SERVER_DSN_BYTES];
    PGconn *sql; /* for looking and meddling */
} database;

/* Makes a database with the schema installed, and connects `sql`. Ends the program on failure. */
void database_open(database *d);
void database_close(database *d);

/* A client of the database; the test frees it. */
pgq_client *database_client(const database *d);

/* Run SQL, made by printf's rules; a statement that fails ends the program with its message. */
void sql_run(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The first field of the result; valid until the second next call ("" for NULL or no row). */
const char *sql_text(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
long long sql_number(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Waits until the query's first field is `wanted`; false after ten seconds. */
bool sql_wait(PGconn *conn, const char *wanted, const char *query);

/* cmocka's setup and teardown: *state is a database. */
int database_setup(void **state);
int database_teardown(void **state);

#endif
