/* sim_dump: a protobuf message in one short line, for the trace. */
#include <stdio.h>
#include <string.h>

#include "rpc.pb-c.h"
#include "sim_int.h"

#define DUMP_MANY 4u

struct dump {
    char *text;
    size_t left;
};

static void dump_text(struct dump *dump, const char *text)
{
    size_t len = strlen(text);

    if (len >= dump->left)
        len = dump->left - 1;
    memcpy(dump->text, text, len);
    dump->text += len;
    dump->left -= len;
    *dump->text = '\0';
}

static void dump_bytes(struct dump *dump, const ProtobufCBinaryData *data)
{
    char text[64];
    bool is_text = data->len > 0;

    for (size_t i = 0; i < data->len; i++)
        is_text = is_text && data->data[i] >= ' ' && data->data[i] < 127;
    if (is_text)
        snprintf(text, sizeof(text), "'%.*s'", (int)(data->len < 40 ? data->len : 40),
                 (const char *)data->data);
    else if (data->len > 0)
        snprintf(text, sizeof(text), "%02x%02x..%02x", data->data[0], data->data[data->len > 1],
                 data->data[data->len - 1]);
    else
        snprintf(text, sizeof(text), "-");
    dump_text(dump, text);
}

static void dump_fields(struct dump *dump, const ProtobufCMessage *msg);

static void dump_value(struct dump *dump, ProtobufCType type, const void *value)
{
    char text[32] = "?";

    switch (type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        snprintf(text, sizeof(text), "%llu", (unsigned long long)*(const uint64_t *)value);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        snprintf(text, sizeof(text), "%lld", (long long)*(const int64_t *)value);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_INT32:
        snprintf(text, sizeof(text), "%u", *(const uint32_t *)value);
        break;
    case PROTOBUF_C_TYPE_STRING:
        dump_text(dump, *(char *const *)value);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        dump_bytes(dump, value);
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        dump_text(dump, "{");
        if (*(ProtobufCMessage *const *)value)
            dump_fields(dump, *(ProtobufCMessage *const *)value);
        dump_text(dump, "}");
        return;
    default:
        break;
    }
    dump_text(dump, text);
}

static size_t value_bytes(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return 8;
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

static bool is_zero(const void *value, size_t bytes)
{
    static const uint8_t zeros[sizeof(ProtobufCBinaryData)];

    return memcmp(value, zeros, bytes) == 0;
}

static void dump_many(struct dump *dump, const ProtobufCFieldDescriptor *field, size_t count,
                      const uint8_t *values)
{
    char text[32];

    for (size_t i = 0; i < count && i < DUMP_MANY; i++) {
        dump_text(dump, i ? "," : "[");
        dump_value(dump, field->type, values + i * value_bytes(field->type));
    }
    if (count > DUMP_MANY) {
        snprintf(text, sizeof(text), ",.. %zu", count);
        dump_text(dump, text);
    }
    dump_text(dump, "]");
}

static void dump_fields(struct dump *dump, const ProtobufCMessage *msg)
{
    const char *space = "";

    for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
        const uint8_t *at = (const uint8_t *)msg + field->offset;
        bool many = field->label == PROTOBUF_C_LABEL_REPEATED;
        size_t count =
            many ? *(const size_t *)((const uint8_t *)msg + field->quantifier_offset) : 1;

        if (count == 0 || (!many && is_zero(at, value_bytes(field->type))) ||
            (field->type == PROTOBUF_C_TYPE_BYTES && !many &&
             ((const ProtobufCBinaryData *)at)->len == 0) ||
            (field->type == PROTOBUF_C_TYPE_STRING && !many && !**(char *const *)at))
            continue;
        dump_text(dump, space);
        dump_text(dump, field->name);
        dump_text(dump, "=");
        if (many)
            dump_many(dump, field, count, *(const uint8_t *const *)at);
        else
            dump_value(dump, field->type, at);
        space = " ";
    }
}

void sim_dump_message(const ProtobufCMessage *msg, char *ret_text, size_t text_bytes)
{
    struct dump dump = {.text = ret_text, .left = text_bytes};

    *ret_text = '\0';
    dump_fields(&dump, msg);
}

const ProtobufCMessageDescriptor *sim_dump_error_type(void)
{
    return &gfs__error_reply__descriptor;
}
