/*
 * sim_disk: a node's disk: LevelDB databases (sim_kv.c over sim_db.c) and the few files and
 * directories around them (sim_files.c). It survives the node's process, and what was synced
 * survives a power cut.
 *
 *   database: an ordered map of keys, each with its versions, newest first
 *             version.number = the write that made it; a reader sees those up to its own number
 *
 *   writes    1 2 3 | 4 5 6 7 | 8 9 ...      "|": the log was retired and a new one begun
 *             . s .   . . s .   . .          s: a synced write
 *             d d ?   d d d ?   ? ?          after a power cut: durable, or perhaps lost
 *
 * As measured of LevelDB (common/kv.h): a sync covers what lies before it in the same log, not what
 * a retired log holds; only kv_flush covers that. A power cut keeps of each log some prefix of what
 * is not durable: later writes may be there where earlier ones are gone. A kill keeps all. Names of
 * files and directories are durable at once: the power-cut rig looks after those.
 */
#ifndef TESTS_SIM_SIM_DISK_H
#define TESTS_SIM_SIM_DISK_H

#include "kv.h"
#include "sim.h"

#define SIM_PATH_MAX 256u

struct sim_version {
    struct sim_version *older;
    uint64_t number;
    uint8_t *bytes; /* NULL: deleted */
    size_t len_bytes;
};

#define SIM_KEY_LEVELS 12u

struct sim_key {
    struct sim_version *newest;
    uint8_t *bytes;
    size_t len_bytes;
    uint32_t levels;
    struct sim_key *next[SIM_KEY_LEVELS];
};

/* A write that a power cut may lose. */
struct sim_pending {
    uint64_t number;
    uint64_t log;
};

struct sim_db {
    struct sim_db *next;
    char path[SIM_PATH_MAX];
    struct kv *holder; /* the process that has it open */
    struct sim_key head;
    uint64_t key_count;
    uint64_t last_number;    /* written */
    uint64_t visible_number; /* what a new reader sees */
    uint64_t log;
    struct sim_pending *pending; /* by number */
    size_t pending_count, pending_capacity;
    uint64_t used_bytes;
    bool damaged_log;      /* a strict open refuses it; a lenient one drops a record */
    bool damaged_manifest; /* it does not open */
};

struct sim_file {
    struct sim_file *next;
    char path[SIM_PATH_MAX];
    bool is_dir;
    char text[64];
    size_t len_bytes;
};

struct sim_disk {
    struct sim_node *node;
    struct sim_db *dbs;
    struct sim_file *files;
    uint64_t used_bytes;
    uint64_t capacity_bytes;
    uint64_t stall_until_us;
    uint64_t full_until_us;
    bool fails_next_sync; /* once */
    bool had_failure;     /* since the process started: it has to be started again */
    uint32_t damages;     /* corruptions so far, of whatever kind */
};

struct sim_disk *sim_disk_new(struct sim_node *node);
/* The process has ended. */
void sim_disk_crash(struct sim_disk *disk, bool power);
/* A stall, no space, a failing sync; on one server of a run also damage to what is stored. */
void sim_disk_fault(struct sim_node *node);
void sim_disk_heal(struct sim_disk *disk);
/* How many times anything stored was damaged: then a replica may say so. */
uint32_t sim_disk_damages(const struct sim_disk *disk);

/* ---- between sim_kv.c, sim_files.c and sim_disk.c ---- */
/* The disk of the node that runs; without one the path names the node ("/s1/..."). */
struct sim_disk *sim_disk_of_path(const char *path);
struct sim_db *sim_db_find(struct sim_disk *disk, const char *path);
struct sim_db *sim_db_add(struct sim_disk *disk, const char *path);
void sim_db_remove(struct sim_disk *disk, const char *path);
bool sim_db_holds_data(const struct sim_db *db);
/* The calling thread waits for the disk. Threads only: a loop must not. Nobody's code (checks) does
 * not wait. */
void sim_disk_wait(struct sim_disk *disk, uint64_t least_us, uint64_t most_us);
bool sim_disk_is_full(const struct sim_disk *disk, uint64_t more_bytes);
uint64_t sim_disk_free_bytes(const struct sim_disk *disk);

/* ---- sim_db.c: the map of a database ---- */
void *sim_copy(const void *bytes, size_t len_bytes);
int sim_key_order(const struct sim_key *key, const void *bytes, size_t len_bytes);
/* The last key below bytes; the head if there is none. ret_before, of each level, may be NULL. */
struct sim_key *sim_key_before(struct sim_db *db, const void *bytes, size_t len_bytes,
                               struct sim_key **ret_before);
/* What a reader of that number sees; NULL: nothing. */
const struct sim_version *sim_version_at(const struct sim_key *key, uint64_t number);
/* An entry of the write last_number; value NULL: deleted. */
void sim_db_apply(struct sim_disk *disk, struct sim_db *db, const void *key, size_t key_bytes,
                  const void *value, size_t value_bytes);
/* The write last_number is in the log, and not durable. */
void sim_db_written(struct sim_db *db);
void sim_db_maybe_retire(struct sim_db *db);
/* Writes up to number are durable; log UINT64_MAX: of every log. */
void sim_db_make_durable(struct sim_db *db, uint64_t number, uint64_t log);
/* Undoes the writes that a power cut loses. */
void sim_db_lose(struct sim_db *db);
/* A value of a record gets another byte; false: nothing is stored. */
bool sim_db_flip(struct sim_db *db);
void sim_db_drop_record(struct sim_db *db);

#endif
