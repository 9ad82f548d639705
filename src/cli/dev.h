/* The private PostgreSQL of a folder: a real server in `.pgqueuer/`, reached by a Unix socket.
 *
 *   .pgqueuer/            of the person who started it
 *     .gitignore          keeps all of it out of git
 *     lock                flock, held while something is changed
 *     password            of the role, for TCP; mode 0600
 *     server.log          what the server and initdb print
 *     location            only when the server could not live here: where `server` is instead
 *     server/             of the server's user, mode 0700
 *       data/             appears by a rename when it is complete
 *       run/              the socket
 *
 * PostgreSQL refuses to run as root, so for root the server's user is another one. Whatever is done
 * inside `server/` is done by that user. Any step may be cut off by a kill: the next start goes on
 * from there. */
#ifndef CLI_DEV_H
#define CLI_DEV_H

#include "base/base.h"

#include <sys/types.h>

#define DEV_FOLDER ".pgqueuer"
#define DEV_ROLE "pgqueuer"
#define DEV_DATABASE "pgqueuer"

enum {
    DEV_PATH_BYTES = 4096,
    DEV_PASSWORD_BYTES = 49, /* 24 random bytes in hexadecimal */
    DEV_VERSION_BYTES = 32,
    DEV_MAJOR_MIN = 14
};

typedef struct dev {
    char root[DEV_PATH_BYTES]; /* .../.pgqueuer */
    char home[DEV_PATH_BYTES]; /* .../server, or another place */
    char bin[DEV_PATH_BYTES];  /* the server's programs; "" until they are found */
    char version[DEV_VERSION_BYTES];
    int lock_fd; /* -1 while not locked */
    uid_t uid;   /* the server's user */
    gid_t gid;
    bool drop; /* we are root and the server is not */
    pid_t pid; /* the running server, 0: none */
    int port;  /* of the running server's socket and TCP */
    bool tcp;
    bool ready; /* the running server takes connections */
} dev;

/* Looks at what is there; makes and changes nothing. PGQ_E_NOT_FOUND when `folder` has none. */
pgq_code dev_look(dev *d, const char *folder, pgq_error *err);

/* Makes the folder if needed and waits for the lock; says on stderr that it waits. */
pgq_code dev_lock(dev *d, const char *folder, pgq_error *err);
void dev_unlock(dev *d);

/* Refreshes pid, port, tcp and ready. */
void dev_probe(dev *d);

/* With the lock held. dev_start makes what is missing, with tcp_port 0 for the socket only, and
 * returns when the server takes connections. *ret_found: it ran already. */
pgq_code dev_start(dev *d, int tcp_port, bool *ret_found, pgq_error *err);
pgq_code dev_stop(dev *d, pgq_error *err);

/* Deletes data and password of a stopped server; the next start makes new ones. */
pgq_code dev_delete(dev *d, pgq_error *err);

/* The DSN of the socket, to be freed; with a password the one of 127.0.0.1. NULL without memory. */
char *dev_dsn(const dev *d, const char *password);

/* Reads the stored password. */
pgq_code dev_password(const dev *d, char password[DEV_PASSWORD_BYTES], pgq_error *err);

/* The DSN of the running server of `folder`, to be freed; NULL when none runs there, or when it is
 * somebody else's. */
pgq_code dev_find_dsn(const char *folder, char **ret_dsn, pgq_error *err);

/* For the files of this module. */

/* Joins two parts of a path; PGQ_E_LIMIT when it is too long. */
pgq_code dev_path(char path[DEV_PATH_BYTES], const char *folder, const char *name, pgq_error *err);

/* Whom a file is for. */
typedef enum dev_reader { DEV_EVERYBODY, DEV_OURSELVES, DEV_SERVER } dev_reader;

/* Writes a small file so that it is there whole or not at all. */
pgq_code dev_write_file(const dev *d, const char *path, const char *text, dev_reader reader,
                        pgq_error *err);

/* Reads a small file into `text`, cut at its size, without the ending newline. False when it cannot
 * be read. */
bool dev_read_file(const char *path, char *text, size_t size);

/* Runs a program and waits for it. `as_server`: as the server's user. Its output goes to
 * server.log, or when `output` is given, into that, cut at its size. `input` (may be NULL) is its
 * stdin, at most one pipe buffer. Returns the exit status, or 127 when it could not be started. */
int dev_spawn(const dev *d, char *const argv[], bool as_server, const char *input, char *output,
              size_t output_size);

/* Calls a function in a process of the server's user; true when it returned true. */
bool dev_as_server(const dev *d, bool (*function)(const char *path), const char *path);

/* Finds programs of a server that fit `data` (NULL: any). Fills d->bin and d->version. */
pgq_code dev_find_programs(dev *d, const char *data, pgq_error *err);

/* Makes d->home and, unless it is there, the data in it. */
pgq_code dev_make(dev *d, pgq_error *err);

/* What data are called while they are made, followed by a number. */
#define DEV_FRESH "data.new."

/* For dev_as_server: remove everything in the home, or unfinished data. Follow no links. */
bool dev_remove_all(const char *home);
bool dev_remove_fresh(const char *home);

/* The last lines of server.log on stderr. */
void dev_show_log(const dev *d);

#endif
