/* The OIDs of the built-in types that our statements use. Source: PostgreSQL's pg_type.dat; they
 * are the same in every release. */
#ifndef PG_OID_H
#define PG_OID_H

#define PG_OID_MAP(X)                           \
    X("bool", BOOL, 16)                         \
    X("bytea", BYTEA, 17)                       \
    X("int8", INT8, 20)                         \
    X("int2", INT2, 21)                         \
    X("int4", INT4, 23)                         \
    X("text", TEXT, 25)                         \
    X("tid", TID, 27)                           \
    X("float8", FLOAT8, 701)                    \
    X("timestamptz", TIMESTAMPTZ, 1184)         \
    X("uuid", UUID, 2950)                       \
    X("jsonb", JSONB, 3802)                     \
    X("bool[]", BOOL_ARRAY, 1000)               \
    X("bytea[]", BYTEA_ARRAY, 1001)             \
    X("tid[]", TID_ARRAY, 1010)                 \
    X("int4[]", INT4_ARRAY, 1007)               \
    X("text[]", TEXT_ARRAY, 1009)               \
    X("int8[]", INT8_ARRAY, 1016)               \
    X("timestamptz[]", TIMESTAMPTZ_ARRAY, 1185) \
    X("jsonb[]", JSONB_ARRAY, 3807)

typedef enum pg_oid {
#define X(text, name, number) PG_OID_##name = number,
    PG_OID_MAP(X)
#undef X
} pg_oid;

#endif
