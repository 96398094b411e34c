/* uuid: random identifiers (version 4) and their text form. Declared in daemon.h. Floor 4. */
#include "daemon.h"

#include <assert.h>
#include <openssl/rand.h>
#include <string.h>

void uuid_make(uint8_t ret_uuid[GFS_UUID_BYTES])
{
    int rc = RAND_bytes(ret_uuid, GFS_UUID_BYTES);

    assert(rc == 1); /* the kernel's random source always answers */
    ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40);
    ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
}

void uuid_format(const uint8_t uuid[GFS_UUID_BYTES], char ret_text[37])
{
    static const char digits[] = "0123456789abcdef";
    char *out = ret_text;

    for (size_t i = 0; i < GFS_UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[uuid[i] >> 4];
        *out++ = digits[uuid[i] & 15];
    }
    *out = '\0';
}

static int uuid_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool uuid_parse(const char *text, uint8_t ret_uuid[GFS_UUID_BYTES])
{
    uint8_t uuid[GFS_UUID_BYTES];

    for (size_t i = 0; i < GFS_UUID_BYTES; i++) {
        int high, low;

        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return false;
        high = uuid_digit(text[0]);
        low = high < 0 ? -1 : uuid_digit(text[1]);
        if (low < 0)
            return false;
        uuid[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return false;
    memcpy(ret_uuid, uuid, sizeof(uuid));
    return true;
}

bool uuid_is_zero(const uint8_t uuid[GFS_UUID_BYTES])
{
    static const uint8_t zero[GFS_UUID_BYTES];

    return memcmp(uuid, zero, sizeof(zero)) == 0;
}
