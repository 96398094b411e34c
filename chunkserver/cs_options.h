/* cs_options: the options of gfs-chunkserver, from chunkserver_options.tbl. Floor 6. */
#ifndef CHUNKSERVER_CS_OPTIONS_H
#define CHUNKSERVER_CS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

#define CS_OPTION_STRING(name) const char *name;
#define CS_OPTION_U64(name)    uint64_t name;
#define CS_OPTION_SIZE(name)   uint64_t name;
#define CS_OPTION_BOOL(name)   bool name;

struct cs_options {
#define OPT(name, type, text, min, max, unit, help) CS_OPTION_##type(name)
#include "chunkserver/chunkserver_options.tbl"
#undef OPT
};

extern const struct config_program cs_options_program;

#endif
