<?php
$e = 1;
