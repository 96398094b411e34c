#include "crc.h"

#include <isa-l/crc.h>

/* ISA-L takes an int length. */
#define CRC_STEP_MAX_BYTES (1u << 30)
/* CRC-32C's polynomial, bit-reflected: the highest power of x is the lowest bit. */
#define CRC_POLY 0x82f63b78u
#define CRC_ONE  0x80000000u /* x^0 */
#define CRC_X8   0x00800000u /* x^8: one byte */

uint32_t crc32c(uint32_t crc, const void *data, size_t len_bytes)
{
    /* ISA-L's prototype lacks const; it only reads. */
    unsigned char *at = (unsigned char *)data;
    crc = ~crc;
    while (len_bytes > 0) {
        size_t step = len_bytes < CRC_STEP_MAX_BYTES ? len_bytes : CRC_STEP_MAX_BYTES;
        crc = crc32_iscsi(at, (int)step, crc);
        at += step;
        len_bytes -= step;
    }
    return ~crc;
}

/* a * b modulo the polynomial. */
static uint32_t crc_multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = CRC_ONE; bit != 0; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = (b >> 1) ^ (b & 1 ? CRC_POLY : 0);
    }
    return product;
}

/* Appending n zero bytes multiplies a CRC by x^(8n); the conditioning of the two CRCs cancels. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, size_t len_b_bytes)
{
    uint32_t power = CRC_X8;
    uint32_t shift = CRC_ONE;
    for (size_t n = len_b_bytes; n > 0; n >>= 1) {
        if (n & 1)
            shift = crc_multiply(shift, power);
        power = crc_multiply(power, power);
    }
    return crc_multiply(crc_a, shift) ^ crc_b;
}
