"""Mock releases of which every star is known, and a catalog held against that truth."""
