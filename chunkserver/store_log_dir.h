/* store_log_dir: the directories of the data log: finding, opening, making. store_log's own. */
#ifndef CHUNKSERVER_STORE_LOG_DIR_H
#define CHUNKSERVER_STORE_LOG_DIR_H

#include "store_log.h"

/* Fills log->set from the directory. */
enum gfs_err store_log_dir_load(struct store_log *log) GFS_MUST_CHECK;
/* Makes the database that starts at first_seq with its HEAD record, synced. */
enum gfs_err store_log_dir_make(struct store_log *log, uint64_t first_seq,
                                struct store_db **ret_db) GFS_MUST_CHECK;

#endif
