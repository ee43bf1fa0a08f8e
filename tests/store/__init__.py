"""The conformance suite: what ``barman_cloud.store.base`` promises, asked of every store."""
