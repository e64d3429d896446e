"""The upgrade layer: releases side by side, and how traffic moves between them."""
