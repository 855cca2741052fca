"""A survey on disk: releases, runs, catalogs; what is to do, doing it, publishing it."""
