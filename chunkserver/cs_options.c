/* The option table as config.h wants it. */
#include "chunkserver/cs_options.h"

static const struct config_option cs_option_list[] = {
#define OPT(name, type, text, min, max, unit, help) \
    {#name, CONFIG_##type, offsetof(struct cs_options, name), text, min, max, unit, help},
#include "chunkserver/chunkserver_options.tbl"
#undef OPT
};

const struct config_program cs_options_program = {
    .name = "gfs-chunkserver",
    .summary = "Keeps replicated chunks on one disk and serves them.",
    .examples = "gfs-chunkserver --data /srv/gfs/disk1 --master 10.0.0.1:7400 --listen "
                "10.0.0.2:7401 --rack a\n"
                "gfs-chunkserver --data DIR --master ADDR:PORT --listen 127.0.0.1:0",
    .options = cs_option_list,
    .option_count = sizeof cs_option_list / sizeof cs_option_list[0],
};
