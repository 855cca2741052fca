"""Made-up files, releases, libraries and tracks, for anybody's tests."""
