"""How Celery's workers work: read by ``dagster_celery.app``, which they run."""

import os

broker_url = os.environ["VV_CELERY_BROKER"]
result_backend = os.environ["VV_CELERY_RESULTS"]

# A run in a process of its own: it sees the configuration and the secrets of now, and leaves no memory behind.
worker_max_tasks_per_child = 1
# Imported once, before that process is forked, so that it begins a second sooner. Only what starts no threads: pyarrow
# does, and is imported by each.
imports = ["dagster_postgres", "s3fs", "videovector"]

# A worker takes a run when it has a place for it, and not before: another one may have a place now.
worker_prefetch_multiplier = 1
worker_disable_prefetch = True

# What a worker took and had not begun when it was lost is in the queue again after so many seconds. One that comes
# twice is begun once: Dagster ignores the second.
broker_transport_options = {
    "visibility_timeout": 30,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
}
broker_connection_retry_on_startup = True

# Dagster keeps what runs print, by itself.
worker_redirect_stdouts = False

# For Flower, and for `celery events`.
worker_send_task_events = True
