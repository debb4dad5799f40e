"""Secure two-party computation: how numbers become ring elements, and (as they land) shares and protocols."""
