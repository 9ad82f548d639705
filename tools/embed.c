/* embed OUT.h OUT.c NAME.sql...: turns the SQL files into C.
 *
 * The text is written as numbers, byte for byte, so no escaping can change it. The comment lines
 * at the head of a file are not sent to the server; from those of the form "-- $n type ..." come
 * the parameters' types, which must be numbered 1, 2, 3 without a gap.
 *
 * A file in which lines end in "-- counted" holds two statements: NAME without them, and
 * NAME_counted without those that end in "-- uncounted". */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 64 * 1024, TYPE_BYTES = 32, PARAMS_MAX = 16 };

static const char counted_mark[] = " -- counted", uncounted_mark[] = " -- uncounted";

typedef struct sql_file {
    char name[128], file[128]; /* of the statement; of the file, without ".sql" */
    char bytes[FILE_BYTES_MAX];
    size_t len, body; /* body: where the head comment ends */
    char types[PARAMS_MAX][TYPE_BYTES];
    int param_count;
} sql_file;

static int fail(const char *path, const char *what)
{
    fprintf(stderr, "embed: %s: %s\n", path, what);
    return 1;
}

static int read_file(const char *path, sql_file *file)
{
    const char *base = strrchr(path, '/');
    FILE *in = fopen(path, "rb");
    size_t len;

    if (in == NULL)
        return fail(path, "cannot be opened");
    file->len = fread(file->bytes, 1, sizeof(file->bytes) - 1, in);
    (void)fclose(in);
    if (file->len == sizeof(file->bytes) - 1)
        return fail(path, "is too long");
    file->bytes[file->len] = '\0';
    base = base != NULL ? base + 1 : path;
    len = strlen(base);
    if (len < 5 || len >= sizeof(file->name) || strcmp(base + len - 4, ".sql") != 0)
        return fail(path, "is not named NAME.sql");
    memcpy(file->name, base, len - 4);
    file->name[len - 4] = '\0';
    memcpy(file->file, file->name, sizeof(file->file));
    return 0;
}

/* Reads "-- $n type" from a head line, if it is one. */
static int read_param(const char *path, sql_file *file, const char *line)
{
    int number;
    char type[TYPE_BYTES];

    if (sscanf(line, "-- $%d %31s", &number, type) != 2)
        return 0;
    if (number != file->param_count + 1 || number > PARAMS_MAX)
        return fail(path, "parameters must be listed in order, from $1");
    memcpy(file->types[file->param_count++], type, sizeof(type));
    return 0;
}

static int parse_file(const char *path, sql_file *file)
{
    size_t at = 0;

    while (strncmp(file->bytes + at, "--", 2) == 0) {
        if (read_param(path, file, file->bytes + at) != 0)
            return 1;
        at += strcspn(file->bytes + at, "\n");
        if (at < file->len)
            at++;
    }
    file->body = at;
    while (file->len > at && isspace((unsigned char)file->bytes[file->len - 1]))
        file->len--;
    if (file->len > at && file->bytes[file->len - 1] == ';')
        file->len--;
    return at < file->len ? 0 : fail(path, "holds no statement");
}

/* The length of a line without the mark, if it ends in that; 0: it does not. */
static size_t unmarked(const char *line, size_t len, const char *mark)
{
    size_t mark_len = strlen(mark);

    if (len <= mark_len || memcmp(line + len - mark_len, mark, mark_len) != 0)
        return 0;
    return len - mark_len;
}

/* Leaves out the lines with one mark, and the other mark itself. */
static void keep_lines(sql_file *file, const char *keep, const char *leave_out)
{
    size_t out = file->body;

    for (size_t at = file->body, next; at < file->len; at = next) {
        const char *line = file->bytes + at;
        size_t len = strcspn(line, "\n"), kept = unmarked(line, len, keep);

        next = at + len + 1;
        if (unmarked(line, len, leave_out) > 0)
            continue;
        if (kept > 0)
            len = kept;
        memmove(file->bytes + out, line, len);
        out += len;
        file->bytes[out++] = '\n';
    }
    file->len = out > file->body ? out - 1 : out;
    file->bytes[file->len] = '\0';
}

/* Makes the counted statement of a file, if there is one. */
static int add_counted(const char *path, sql_file *file, sql_file *counted)
{
    if (strstr(file->bytes + file->body, " -- counted\n") == NULL)
        return 0;
    if (strlen(file->name) + sizeof("_counted") > sizeof(file->name)) {
        (void)fail(path, "has too long a name");
        return -1;
    }
    *counted = *file;
    strcat(counted->name, "_counted");
    keep_lines(counted, counted_mark, uncounted_mark);
    keep_lines(file, uncounted_mark, counted_mark);
    return 1;
}

static void write_id(FILE *out, const char *name)
{
    fputs("STATEMENT_", out);
    for (; *name != '\0'; name++)
        fputc(toupper((unsigned char)*name), out);
}

static void write_header(FILE *out, const sql_file *files, int count)
{
    fputs("/* Made by tools/embed from sql/. */\n#ifndef SQL_GEN_H\n#define SQL_GEN_H\n\n"
          "#include <stddef.h>\n\ntypedef enum statement_id {\n",
          out);
    for (int i = 0; i < count; i++) {
        fputs("    ", out);
        write_id(out, files[i].name);
        fputs(",\n", out);
    }
    fputs("    STATEMENT_COUNT\n} statement_id;\n\n"
          "typedef struct statement_source {\n    const char *name;\n    const char *file;\n    "
          "const char *text;\n"
          "    size_t len;\n    const char *const *param_types;\n    size_t param_count;\n"
          "} statement_source;\n\n"
          "extern const statement_source statement_sources[STATEMENT_COUNT];\n\n#endif\n",
          out);
}

static void write_source(FILE *out, const sql_file *files, int count)
{
    fputs("/* Made by tools/embed from sql/. */\n#include \"sql.gen.h\"\n\n", out);
    for (int i = 0; i < count; i++) {
        const sql_file *file = &files[i];

        fprintf(out, "static const unsigned char text_%d[] = {", i);
        for (size_t at = file->body; at < file->len; at++)
            fprintf(out, "%s%u,", (at - file->body) % 24 == 0 ? "\n    " : " ",
                    (unsigned)(unsigned char)file->bytes[at]);
        fprintf(out, " 0};\nstatic const char *const types_%d[] = {", i);
        for (int p = 0; p < file->param_count; p++)
            fprintf(out, "\"%s\", ", file->types[p]);
        fputs("NULL};\n\n", out);
    }
    fputs("const statement_source statement_sources[STATEMENT_COUNT] = {\n", out);
    for (int i = 0; i < count; i++)
        fprintf(out,
                "    {\"%s\", \"%s\", (const char *)text_%d, sizeof(text_%d) - 1, types_%d, %d},\n",
                files[i].name, files[i].file, i, i, i, files[i].param_count);
    fputs("};\n", out);
}

static int write_file(const char *path, void (*write)(FILE *, const sql_file *, int),
                      const sql_file *files, int count)
{
    FILE *out = fopen(path, "wb");

    if (out == NULL)
        return fail(path, "cannot be written");
    write(out, files, count);
    return fclose(out) == 0 ? 0 : fail(path, "cannot be written");
}

int main(int argc, char **argv)
{
    int paths = argc - 3, count = 0, status = 0;
    sql_file *files;

    if (paths < 1)
        return fail("usage", "embed OUT.h OUT.c NAME.sql...");
    files = calloc((size_t)paths * 2, sizeof(*files));
    if (files == NULL)
        return fail("embed", "out of memory");
    for (int i = 0; status == 0 && i < paths; i++) {
        sql_file *file = &files[count++];
        int more = 0;

        status = read_file(argv[i + 3], file);
        if (status == 0)
            status = parse_file(argv[i + 3], file);
        if (status == 0)
            more = add_counted(argv[i + 3], file, file + 1);
        if (more < 0)
            status = 1;
        else
            count += more;
    }
    if (status == 0)
        status = write_file(argv[1], write_header, files, count);
    if (status == 0)
        status = write_file(argv[2], write_source, files, count);
    free(files);
    return status;
}
