"""The store on disk: layout, lock, all-or-nothing publishing, dates, quality gate and Delta copies."""
