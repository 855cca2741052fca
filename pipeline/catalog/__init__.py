"""The published catalog: opened, asked, exported, compared with another."""
