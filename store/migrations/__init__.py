"""The schema's history, one file a step, forward only. Applied by wizloop.store.migrate, and never edited later."""
