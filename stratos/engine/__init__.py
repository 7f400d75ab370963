"""The trio engine: commit log, repository writer, firehose, enrollment, retention, supervision."""
