/* crc: CRC-32C (Castagnoli), standard form: crc32c(0, "123456789", 9) == 0xe3069283. Floor 2. */
#ifndef COMMON_CRC_H
#define COMMON_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 at the start) over len bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len_bytes);
/* CRC of A then B from the CRCs of A and B and B's length. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, size_t len_b_bytes);

#endif
